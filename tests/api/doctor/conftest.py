"""A registry to tamper with, and what the doctor says of it."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient

from shiftreg import api


@pytest.fixture
def client(workspace: api.Workspace) -> MlflowClient:
    return MlflowClient(workspace.registry.uri, registry_uri=workspace.registry.uri)
