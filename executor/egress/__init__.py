"""Network mode `allowlist`: a job reaches the hosts that its profile names, through a proxy, and nothing else.

The job's container has no network in this mode either. Its one way out is a unix socket, and what answers there is
squid in a container of its own, of an image of its own, which knows the allowed names, their ports and their addresses,
and no resolver. The job cannot look a name up: a query is a way out too.
"""
