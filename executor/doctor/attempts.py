"""The attempts, as data: what each tries from inside of a job, and how it must fail.

Every one is a script that ends by sending `result` as an output where it got through. The tests run each a second time
in a container that lacks the one protection that it is about, and want it to get through there: an attempt that is
merely clumsy proves nothing. They change nothing on a host whose sandbox holds, and next to nothing on one whose does
not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

_LIBRARY = "/usr/lib/x86_64-linux-gnu/libz.so.1"
_LOADER = "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_PYTHON = "/usr/bin/python3.11"
_SEND = "\nfrom worker.job import current\ncurrent().output('out.txt', str(result), role='data')\n"
_LIBC = (
    "import ctypes, os, shutil\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    "def whole(value): return ctypes.c_long(value or 0) if value is None or isinstance(value, int) else value\n"
)
_NOEXEC = "failed to map segment"
_FILTERED = "Operation not permitted"
_READ_ONLY = ("Read-only file system", "Permission denied")
_OUT_OF_SIGHT = ("Permission denied", "No such file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt.

    Attributes:
        name: What it tries, for people; unique.
        family: What it belongs to.
        code: Python, run as a job.
        reasons: One of these must be in the outcome's reason when it fails. Kernels say no in different words.
        limits: Limits of the job that differ from the battery's own.
    """

    name: str
    family: str
    code: str
    reasons: tuple[str, ...]
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def script(self) -> str:
        """The whole job."""
        return self.code + _SEND


def _call(number: int, *arguments: str, before: str = "") -> str:
    """Make a system call by number, and raise what the kernel answers.

    Numbers go as whole registers: as an int, the last of six brings whatever lay on the stack beside it.
    """
    call = ", ".join(f"whole({argument})" for argument in (str(number), *arguments))
    return (
        f"{_LIBC}{before}"
        f"value = libc.syscall({call})\n"
        "error = ctypes.get_errno()\n"
        "if value < 0: raise OSError(error, os.strerror(error))\n"
        "result = True"
    )


def _socket(family: int, kind: str) -> str:
    return f"import socket\nresult = socket.socket({family}, socket.SOCK_{kind}).fileno() > 0"


def _option(family: str, level: int, name: int, value: str, *, kind: str = "STREAM") -> str:
    return (
        f"import socket\nsocket.socket(socket.{family}, socket.SOCK_{kind})"
        f".setsockopt({level}, {name}, {value})\nresult = True"
    )


def _torch(call: str) -> str:
    """Call into torch, and raise what the loader said in place of what torch makes of it."""
    return f"import torch\ntry:\n    {call}\nexcept OSError as err:\n    raise err.__cause__ or err\nresult = True"


def _frames(body: str) -> str:
    """Speak on the job's own channel, past the functions that a job is given."""
    return (
        "import hashlib, json, struct\nfrom worker.job import current\nstream = current().control\n"
        "def frame(kind, data): stream.sendall(struct.pack('>cI', kind, len(data)) + data)\n"
        "def say(**message): frame(b'J', json.dumps(message).encode())\n"
        "def output(name='out.txt', role='data', size=2, data=b'ok', digest=None):\n"
        "    say(type='output', name=name, role=role, size=size)\n"
        "    if data: frame(b'B', data)\n"
        "    say(type='output-end', sha256=digest or hashlib.sha256(data).hexdigest())\n"
        f"{body}\n"
        "say(type='result', result={})\n"
        "import os; os._exit(0)\n"
    )


def _affinity(number: str) -> str:
    return _call(
        203,
        number,
        "128",
        "mask",
        before="mask = ctypes.create_string_buffer(128)\nmask[0] = 1 << min(os.sched_getaffinity(0))\n",
    )


def _locked(call: str) -> str:
    return f"import fcntl, os, struct\nfile = open('/tmp/f', 'w')\n{call}\nresult = True"


_SIGNAL_INFO = "ctypes.create_string_buffer((-1).to_bytes(12, 'little', signed=True), 128)"
# One instruction that allows every call: struct sock_filter and sock_fprog of linux/filter.h.
_PROGRAM = (
    "import struct\ncode = ctypes.create_string_buffer(struct.pack('<HBBI', 6, 0, 0, 0x7FFF0000), 8)\n"
    "program = ctypes.create_string_buffer(struct.pack('<HxxxxxxQ', 1, ctypes.addressof(code)), 16)\n"
)


_Reasons = str | tuple[str, ...]
_Row = tuple[str, str, _Reasons] | tuple[str, str, _Reasons, Mapping[str, float]]


def _family(family: str, *rows: _Row) -> list[Attempt]:
    return [
        Attempt(
            name=row[0],
            family=family,
            code=row[1],
            reasons=(row[2],) if isinstance(row[2], str) else row[2],
            limits=row[3] if len(row) == 4 else {},
        )
        for row in rows
    ]


_FILESYSTEM = _family(
    "filesystem",
    ("write to the root file system", "open('/x', 'w').write('x')\nresult = True", _READ_ONLY),
    (
        "write to the image's libraries",
        "open('/usr/lib/python3.11/os.py', 'a').write('#')\nresult = True",
        "Permission denied",
    ),
    ("write to the job's code on the host", "open('/job/new.py', 'w').write('#')\nresult = True", _READ_ONLY),
    ("write to the job's inputs on the host", "open('/in/new', 'w').write('#')\nresult = True", _READ_ONLY),
    ("write beside the worker's socket on the host", "open('/run/executor/new', 'w')\nresult = True", _READ_ONLY),
    ("make a device node", f"{_LIBC}os.mknod('/tmp/null', 0o20666, os.makedev(1, 3))\nresult = True", _FILTERED),
    ("see the root of process 1", "import os\nos.listdir('/proc/1/root')\nresult = True", "Permission denied"),
    (
        "read what the kernel tells of its timers",
        "data = open('/proc/timer_list').read()\nassert data, 'it is masked'\nresult = True",
        ("it is masked", "No such file"),
    ),
    (
        "open a kernel setting for writing",
        "open('/proc/sys/kernel/core_pattern', 'r+')\nresult = True",
        _OUT_OF_SIGHT,
    ),
    ("mount a file system", _call(165, "b'none'", "b'/tmp'", "b'tmpfs'", "0", "None"), _FILTERED),
    ("open a tree by the new mount interface", _call(428, "-100", "b'/'", "0"), _FILTERED),
    (
        "get a handle to a file",
        _call(
            303,
            "-100",
            "b'/tmp'",
            "handle",
            "mount",
            "0",
            before="handle = ctypes.create_string_buffer((128).to_bytes(4, 'little'), 140)\n"
            "mount = ctypes.create_string_buffer(8)\n",
        ),
        _FILTERED,
    ),
)
_NETWORK = _family(
    "network",
    (
        "send to an address outside",
        "import errno, os, socket\nstream = socket.socket()\nstream.setblocking(False)\n"
        "error = stream.connect_ex(('198.51.100.1', 9))\n"
        "if error != errno.EINPROGRESS: raise OSError(error, os.strerror(error))\nresult = True",
        ("Network is unreachable", "No route to host"),
    ),
    ("open a datagram socket", _socket(2, "DGRAM"), _FILTERED),
    (
        "open a socket of several paths",
        "import socket\nsocket.socket(2, socket.SOCK_STREAM, 262)\nresult = True",
        _FILTERED,
    ),
    (
        "join a multicast group",
        _option("AF_INET", 0, 35, "bytes([239, 1, 2, 3, 127, 0, 0, 1])", kind="DGRAM"),
        _FILTERED,
    ),
    (
        "join a multicast group of one source",
        _option("AF_INET", 0, 39, "bytes([239, 1, 2, 3, 127, 0, 0, 1, 127, 0, 0, 1])"),
        _FILTERED,
    ),
    (
        "join a multicast group of IPv6",
        _option("AF_INET6", 41, 20, "bytes([255, 1] + [0] * 13 + [9]) + bytes([1, 0, 0, 0])", kind="DGRAM"),
        _FILTERED,
    ),
    (
        "attach a program to a socket",
        "import ctypes, struct\nprogram = ctypes.create_string_buffer(struct.pack('<HBBI', 6, 0, 0, 65535), 8)\n"
        + _option("AF_UNIX", 1, 26, "struct.pack('<HxxxxxxQ', 1, ctypes.addressof(program))"),
        _FILTERED,
    ),
    (
        "send out of band",
        "import socket\na, b = socket.socketpair()\nassert a.send(b'x', socket.MSG_OOB) == 1\nresult = True",
        (_FILTERED, "not supported"),
    ),
    ("open a raw socket", "import socket\nsocket.socket(2, socket.SOCK_RAW, 1)\nresult = True", _FILTERED),
    ("open a packet socket", _socket(17, "RAW"), _FILTERED),
    ("open a netlink socket", _socket(16, "RAW"), _FILTERED),
    ("open a socket to the hypervisor", _socket(40, "STREAM"), _FILTERED),
    (
        "reach the kernel's crypto sockets",
        f"{_LIBC}import errno\nvalue = libc.socket(38, 5, 0)\nerror = ctypes.get_errno()\n"
        "if value < 0 and error == errno.EPERM: raise OSError(error, os.strerror(error))\nresult = True",
        _FILTERED,
    ),
)
_PROCESS = _family(
    "process",
    ("run as root", "import os\nassert os.getuid() == 0, 'it is not root'\nresult = True", "it is not root"),
    (
        "have capabilities",
        "status = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
        "assert any(int(status.get(n, '0'), 16) for n in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb', 'CapBnd')), 'none'\n"
        "result = True",
        "none",
    ),
    (
        "gain privileges by a program",
        "assert 'NoNewPrivs:\\t0' in open('/proc/self/status').read(), 'it cannot'\nresult = True",
        "it cannot",
    ),
    ("rewrite process 1", "open('/proc/1/mem', 'r+b')\nresult = True", "Permission denied"),
    ("print through process 1", "open('/proc/1/fd/1', 'w')\nresult = True", "Permission denied"),
    (
        "lower the limits of process 1",
        _call(302, "1", "0", "None", "ctypes.create_string_buffer(16)"),
        _FILTERED,
    ),
    (
        "slow process 1 down",
        "import os\nos.setpriority(os.PRIO_PROCESS, 1, 19)\nresult = True",
        _FILTERED,
    ),
    (
        "slow every process of the user down",
        "import os\nos.setpriority(os.PRIO_USER, 0, 19)\nresult = True",
        _FILTERED,
    ),
    ("move process 1 to one processor", _affinity("1"), _FILTERED),
    ("move process 1 under a number of 64 bits", _affinity("(1 << 32) + 1"), _FILTERED),
    ("queue a signal with a value", _call(129, "os.getpid()", "0", _SIGNAL_INFO), _FILTERED),
    ("adopt the orphans of process 1", _call(157, "36", "1", "0", "0", "0"), _FILTERED),
    ("install a filter of its own", _call(157, "22", "2", "program", before=_PROGRAM), _FILTERED),
    ("trace a process", _call(101, "0", "0", "0", "0"), _FILTERED),
    (
        "read another process's memory",
        _call(310, "os.getpid()", "None", "0", "None", "0", "0"),
        _FILTERED,
    ),
    ("open a process descriptor", _call(434, "os.getpid()", "0"), _FILTERED),
    ("compare kernel pointers of two processes", _call(312, "os.getpid()", "os.getpid()", "0", "0", "0"), _FILTERED),
    ("change the personality", _call(135, "0x0040000"), _FILTERED),
    ("make a user namespace", _call(272, "0x10000000"), _FILTERED),
    (
        "be born into a user namespace",
        _call(56, "0x10000011", "0", "0", "0", "0").replace("error =", "if value == 0: libc._exit(0)\nerror =", 1),
        _FILTERED,
    ),
    (
        "raise the limit on open files",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))\nresult = True",
        "not allowed to raise maximum limit",
    ),
    (
        "dump core",
        "import resource\nassert resource.getrlimit(resource.RLIMIT_CORE)[1] != 0, 'it cannot'\nresult = True",
        "it cannot",
    ),
)
_KERNEL = _family(
    "kernel interface",
    ("open an io_uring", _call(425, "8", "ctypes.create_string_buffer(120)"), _FILTERED),
    ("open a user fault descriptor", _call(323, "1"), _FILTERED),
    ("ask for a keyring", _call(250, "0", "-3", "1"), _FILTERED),
    ("change the local descriptor table", _call(154, "0", "ctypes.create_string_buffer(16)", "16"), _FILTERED),
    (
        "splice pages into a pipe",
        _call(278, "w", "None", "0", "0", before="r, w = os.pipe()\n"),
        _FILTERED,
    ),
    (
        "load a program into the kernel",
        _call(
            321,
            "0",
            "attr",
            "72",
            before=("import struct\nattr = ctypes.create_string_buffer(struct.pack('<IIII', 2, 4, 4, 1), 72)\n"),
        ),
        _FILTERED,
    ),
    ("make anonymous files in memory", _call(319, "b'x'", "0"), _FILTERED),
    ("lock a part of a file", _locked("fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)"), _FILTERED),
    (
        "lock a part of an open file",
        _locked("fcntl.fcntl(file, 37, struct.pack('hhqqi4x', 1, 0, 0, 1, 0))"),
        _FILTERED,
    ),
    ("lock a file", _locked("fcntl.flock(file, fcntl.LOCK_EX)"), ("not implemented", _FILTERED)),
    ("take a lease on a file", _locked("fcntl.fcntl(file, 1024, 1)"), _FILTERED),
    ("be told of changes in a folder", _locked("fcntl.fcntl(os.open('/tmp', 0), 1026, 2)"), _FILTERED),
    ("make a pipe larger", _locked("fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)"), _FILTERED),
    ("be sent signals by a descriptor", _locked("fcntl.ioctl(os.pipe()[0], 0x5452, struct.pack('i', 1))"), _FILTERED),
    ("watch files", _call(294, "0"), _FILTERED),
    ("make a timer", _call(222, "1", "None", "ctypes.create_string_buffer(8)"), _FILTERED),
    ("make a timer with a descriptor", _call(283, "1", "0"), _FILTERED),
    ("make semaphores of System V", _call(64, "0", "8", "0o600"), _FILTERED),
    ("interrupt every processor", _call(324, "1", "0", "0"), _FILTERED),
    (
        "open a terminal",
        "import os\nresult = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY) > 0",
        ("No such file", "Read-only file system"),
    ),
)
_COPY = f"import ctypes, shutil\nshutil.copy({_LIBRARY!r}, '{{0}}')\n"
_TMP = _COPY.format("/tmp/x.so")
_COPY_PYTHON = f"import os, shutil, subprocess\nshutil.copy({_PYTHON!r}, '/tmp/py')\nos.chmod('/tmp/py', 0o755)\n"
_EXTENSION = (
    "import glob, importlib.util, os, shutil\n"
    "source = glob.glob('/usr/lib/python3.11/lib-dynload/_json*.so')\n"
    "source = source or glob.glob('/usr/lib/python3/dist-packages/numpy/**/_*.so', recursive=True)\n"
    "name = os.path.basename(source[0]).partition('.')[0]\n"
    "os.makedirs('{0}')\n"
    "shutil.copy(source[0], '{0}/' + name + '.so')\n"
    "spec = importlib.util.spec_from_file_location(name, '{0}/' + name + '.so')\n"
    "importlib.util.module_from_spec(spec)\nresult = True"
)
_NATIVE = _family(
    "native code",
    ("load a library from /tmp", f"{_TMP}result = bool(ctypes.CDLL('/tmp/x.so'))", _NOEXEC),
    (
        "load a library from shared memory",
        _COPY.format("/dev/shm/x.so") + "result = bool(ctypes.CDLL('/dev/shm/x.so'))",
        _NOEXEC,
    ),
    (
        "load a library from memory",
        f"{_LIBC}fd = os.memfd_create('x')\nos.write(fd, open({_LIBRARY!r}, 'rb').read())\n"
        "result = bool(ctypes.CDLL(f'/proc/self/fd/{fd}'))",
        _FILTERED,
    ),
    (
        "load a library from a file without a name",
        f"{_LIBC}fd = os.open('/tmp', os.O_TMPFILE | os.O_RDWR)\nos.write(fd, open({_LIBRARY!r}, 'rb').read())\n"
        "result = bool(ctypes.CDLL(f'/proc/self/fd/{fd}'))",
        (_NOEXEC, "Operation not supported"),
    ),
    (
        "load a library of operators",
        _TMP + _torch("torch.ops.load_library('/tmp/x.so')"),
        _NOEXEC,
    ),
    (
        "load a library of classes",
        _TMP + _torch("torch.classes.load_library('/tmp/x.so')"),
        _NOEXEC,
    ),
    (
        "load a library as numpy does",
        f"{_TMP}import numpy.ctypeslib as n\nresult = bool(n.load_library('x.so', '/tmp'))",
        _NOEXEC,
    ),
    (
        "load a library of operators for onnxruntime",
        f"{_TMP}import onnxruntime\ntry:\n    onnxruntime.SessionOptions().register_custom_ops_library('/tmp/x.so')\n"
        "except Exception as err:\n    if 'RegisterCustomOps' not in str(err): raise\nresult = True",
        _NOEXEC,
    ),
    (
        "load a library into a namespace of its own",
        f"{_TMP}libc = ctypes.CDLL(None)\nlibc.dlmopen.restype = libc.dlerror.restype = ctypes.c_void_p\n"
        "handle = libc.dlmopen(ctypes.c_long(-1), b'/tmp/x.so', 2)\n"
        "if not handle: raise OSError(ctypes.string_at(libc.dlerror()).decode())\nresult = True",
        _NOEXEC,
    ),
    ("import an extension module", _EXTENSION.format("/tmp/modules"), _NOEXEC),
    ("import what looks like a compiled kernel", _EXTENSION.format("/tmp/.triton/cache/0"), _NOEXEC),
    (
        "load what looks like a compiled graph",
        "import os\nos.makedirs('/tmp/inductor/0')\n"
        + _COPY.format("/tmp/inductor/0/main.so")
        + "result = bool(ctypes.CDLL('/tmp/inductor/0/main.so'))",
        _NOEXEC,
    ),
    (
        "have a library preloaded",
        f"{_TMP}import subprocess\n"
        "code = \"print([l for l in open('/proc/self/maps') if '/tmp/x.so' in l and 'x' in l.split()[1]])\"\n"
        f"command, environment = [{_PYTHON!r}, '-I', '-S', '-c', code], {{'LD_PRELOAD': '/tmp/x.so'}}\n"
        "done = subprocess.run(command, env=environment, capture_output=True)\n"
        "assert b'/tmp/x.so' in done.stdout, done.stderr.decode()\nresult = True",
        _NOEXEC,
    ),
    (
        "run a program of its own",
        f"{_COPY_PYTHON}subprocess.run(['/tmp/py', '-I', '-S', '-c', ''], check=True)\nresult = True",
        "Permission denied",
    ),
    (
        "run a program by the loader",
        f"{_COPY_PYTHON}done = subprocess.run([{_LOADER!r}, '/tmp/py', '-I', '-S', '-c', ''], capture_output=True)\n"
        "assert done.returncode == 0, done.stderr.decode()\nresult = True",
        _NOEXEC,
    ),
    (
        "run a script of its own",
        f"import os, subprocess\nopen('/tmp/s', 'w').write('#!{_PYTHON} -IS\\n')\nos.chmod('/tmp/s', 0o755)\n"
        "subprocess.run(['/tmp/s'], check=True)\nresult = True",
        "Permission denied",
    ),
    (
        "make a file's mapping executable",
        f"{_TMP}import mmap\nlibc = ctypes.CDLL(None, use_errno=True)\nfile = open('/tmp/x.so', 'rb')\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "place = libc.mmap(None, ctypes.c_size_t(4096), 1, 2, file.fileno(), ctypes.c_long(0))\n"
        "import os\nif libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(4096), 5) != 0:\n"
        "    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\nresult = True",
        "Permission denied",
    ),
)
_RESOURCES = _family(
    "resources",
    ("use more memory than allowed", "block = b'x' * (700 << 20)\nresult = len(block)", "killed for memory"),
    (
        "start more processes than allowed",
        "import os, time\nfor _ in range(140):\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\n"
        "result = True",
        ("more processes", "exceeded pids"),  # which of the two is a matter of when the host looks
    ),
    ("fill the temporary folder", "open('/tmp/f', 'wb').write(b'x' * (48 << 20))\nresult = True", "No space left"),
    (
        "fill the temporary folder's inodes",
        "for i in range(9000): open(f'/tmp/{i}', 'w').close()\nresult = True",
        "No space left",
    ),
    ("fill the shared memory", "open('/dev/shm/f', 'wb').write(b'x' * (150 << 20))\nresult = True", "No space left"),
    ("print more than allowed", "print('x' * (3 << 20), flush=True)\nresult = True", "log_bytes"),
    (
        "run longer than allowed",
        "import time\nend = time.monotonic() + 10\nwhile time.monotonic() < end: pass\nresult = True",
        "wall limit",
        {"wall_seconds": 1.0},
    ),
    (
        "do nothing for longer than allowed",
        "import time\ntime.sleep(10)\nresult = True",
        "sent nothing",
        {"idle_seconds": 1.0},
    ),
    ("send more than allowed", "result = 'x' * (3 << 20)", "output_file_bytes", {"output_file_bytes": 1 << 20}),
)
_CHANNEL = _family(
    "output channel",
    ("send a file under a path upwards", _frames("output(name='../../x')"), "not declared"),
    ("send a file under an absolute path", _frames("output(name='/etc/passwd')"), "not declared"),
    ("send a file under a name of two lines", _frames("output(name='out.txt\\nSHA256SUMS')"), "not declared"),
    ("send a file under a name that is no text", _frames("output(name=['out.txt'])"), "not declared"),
    ("send a file twice", _frames("output()\noutput()"), "sent twice"),
    ("send a file in another role", _frames("output(role='model')"), "declared with role"),
    ("send less than announced", _frames("output(size=3)"), "announced were 3"),
    ("send more than announced", _frames("output(size=1)"), "longer than the 1 bytes announced"),
    ("lie about a digest", _frames("output(digest='0' * 64)"), "does not have the digest"),
    ("announce a size below nothing", _frames("output(size=-1)"), "has no size"),
    ("announce more than there is room for", _frames("output(size=1 << 50)"), "over"),
    (
        "send a file inside a file",
        _frames("say(type='output', name='out.txt', role='data', size=2)\noutput()"),
        "inside another",
    ),
    ("send bytes outside of a file", _frames("frame(b'B', b'ok')"), "outside of an output"),
    (
        "break off in the middle of a frame",
        _frames("stream.sendall(b'J\\0\\0\\0\\x50{')\nimport os; os._exit(0)"),
        "without sending its result",
    ),
    ("send a frame that is too long", _frames("stream.sendall(struct.pack('>cI', b'J', 1 << 31))"), "over the limit"),
    ("send a frame of an unknown kind", _frames("frame(b'X', b'')"), "unknown kind of frame"),
    ("send text that is no JSON", _frames("frame(b'J', b'{\"a\": NaN}')"), "not JSON"),
    (
        "send JSON that is nested too deep",
        _frames("frame(b'J', b'{\"a\":' + b'[' * 99 + b']' * 99 + b'}')"),
        "nested deeper",
    ),
    (
        "flood the host with progress",
        _frames("for n in range(300_000): say(type='progress', values={'n': n})"),
        "messages",
    ),
    (
        "send a terminal's control codes as a name of progress",
        _frames("say(type='progress', values={'\\x1b[2J': 1})"),
        "small set of named numbers",
    ),
)
_WORKER = _family(
    "worker protocol",
    ("report its own end", _frames("say(type='exit', exit_code=0, signal=0)"), "unexpected message"),
    ("send two results", _frames("say(type='result', result={})"), "unexpected message"),
    ("succeed without a result", "import os\nos._exit(0)", "without sending its result"),
    (
        "open a channel of its own",
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('/run/executor/worker.sock')\nresult = True",
        "No such file",
    ),
    (
        "end process 1",
        "import os, time\nfor number in (1, 2, 3, 9, 15): os.kill(1, number)\ntime.sleep(1)\n"
        "raise SystemExit('it lives on')",
        "it lives on",
    ),
)

ATTEMPTS = (
    *_FILESYSTEM,
    *_NETWORK,
    *_PROCESS,
    *_KERNEL,
    *_NATIVE,
    *_RESOURCES,
    *_CHANNEL,
    *_WORKER,
)
