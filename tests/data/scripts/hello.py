"""Reads an input, reports progress and declares an output: what an honest script does."""

from worker.job import current

job = current()
text = job.inputs["greeting"].read_text() if "greeting" in job.inputs else "hello"
job.progress(epoch=1, epochs=1, loss=0.5)
job.metrics(length=len(text))
print("seed", job.seed)
job.output("greeting.txt", text, role="data")
