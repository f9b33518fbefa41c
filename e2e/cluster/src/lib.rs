//! paddock-cluster: a real Kubernetes on one Linux machine.
