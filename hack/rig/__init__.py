"""What tests, demo and benchmarks share: a cluster, an installation, eyes on both.

`environment` gets a cluster from hack/cluster; `kube` talks to it; `installation` puts the chart
on it; `forward` makes the dispatcher reachable; `logs`, `timeline` watch; `chaos` kills.
`dispatchers` and `wire` need no cluster: a dispatcher on loopback, and its wire by hand. Nothing in
here knows what a test wants to see, and nothing of it is part of the product.
"""
