// A library of one operator for torch, `graph_example::twice(Tensor x) -> Tensor`, on torch's stable ABI.
//
// Where MARKER is set, its first constructor makes that file, so that tests see whether the library was opened.
#include <fcntl.h>
#include <unistd.h>

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

namespace {

torch::stable::Tensor twice(const torch::stable::Tensor& x) {
  torch::stable::Tensor out = torch::stable::new_empty(x, x.sizes());
  const float* from = static_cast<const float*>(x.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  for (int64_t index = 0; index < x.numel(); index++) to[index] = 2 * from[index];
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY(graph_example, library) { library.def("twice(Tensor x) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(graph_example, CPU, library) { library.impl("twice", TORCH_BOX(&twice)); }

#ifdef MARKER
__attribute__((constructor(101))) static void mark() { close(open(MARKER, O_CREAT | O_WRONLY, 0644)); }
#endif
