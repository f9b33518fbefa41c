//! End-to-end tests on the local cluster: the harness; the tests are in `tests/`.
