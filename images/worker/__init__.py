"""The far side: runs in the container, as process 1 and as the job's process.

It imports no host package. All that it says reaches the host over one bind-mounted unix socket, as frames, and the host
believes none of it: what a worker says can deny a release, never permit one.
"""
