"""From a job file to a launch plan: parse, plan, prepare, and hold the engine and the image against the plan."""
