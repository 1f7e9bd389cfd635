"""Where work is done: in this process, in several of this machine, on a Ray cluster.

An engine knows nothing of what it does: tasks are plain data, the work is a function, and all that
is to be kept is kept by the listener, in the process that asked.
"""

from shiftreg.engines.base import Engine, InProcess, Listener, Work, WorkerDiedError
from shiftreg.engines.process_pool import ProcessPool
from shiftreg.engines.ray_cluster import RayCluster
