"""The same jobs by several workers: a process for each device here, or actors on a Ray cluster.

Each worker holds an Upscaler of its own. Jobs are handed out as workers have room, so that a fast
device does more of them. What a worker had when it died is tried once more, one picture at a time,
so that the picture at fault is found and the others are done.
"""

from clipsr_cli.distributed.cluster import cluster
from clipsr_cli.distributed.processes import processes
from clipsr_cli.distributed.recipe import Recipe
from clipsr_cli.distributed.scheduler import Start, run

__all__ = ["Recipe", "Start", "cluster", "processes", "run"]
