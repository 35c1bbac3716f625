"""The API server as writer, cluster and authenticator: the only door to its client library."""

import kubernetes as kubernetes
