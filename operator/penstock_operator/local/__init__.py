"""The local fleet: WorkerPools on this machine, without Kubernetes.

The dispatcher is the real one, a child process with its journal in the state folder. The decisions
are the operator's own: each pool is planned by `reconcile.plan`, with a Deployment and pods that
stand for the worker processes here. What is local is the part that a kubelet and a ReplicaSet
controller have elsewhere: starting processes, seeing them end, replacing them with back-off. As
nobody else chooses who leaves, phases two and three of a scale-down are one step: a worker that has
confirmed that it is drained gets SIGTERM, and no other one does.

`launch` (what a manifest's container is as a process), `workers` (the table of processes, and when
one may be started) and `picture` are pure. `children` starts and ends processes, `guard` is what
they are started through, `service` keeps the dispatcher running, `pool` one pool, `fleet` composes
and owns the signals, `state` is the folder, its lock and its record.

Nothing here imports kopf, kubernetes, or the dispatcher; Linux only (pidfd, PR_SET_PDEATHSIG).
"""
