"""A node of a secure cluster that is told to be insecure: it does not start."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.governed_node import governed_node

from horologe.node.config import NodeConfig
from horologe.node.node import Node
from horologe.node.tls_folder import TlsError


async def test_what_was_written_in_a_secure_cluster_is_not_opened_to_everybody(tmp_path: Path) -> None:
    async with governed_node(tmp_path) as here:
        folder = here.config.data_dir
    with pytest.raises(TlsError, match="is of a secure cluster"):
        Node(NodeConfig(name="n1", data_dir=folder, insecure=True))
    # Nothing was changed, and nothing is held.
    async with governed_node(tmp_path) as again:
        assert again.admin == here.admin
