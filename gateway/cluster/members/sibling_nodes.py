"""Finds another node for a viewer whom this node refuses."""

import random
from dataclasses import dataclass

from gateway.cluster.members.node_list import NodeList
from gateway.ports.nodes import LEAST_FREE, Node, host_of


@dataclass(frozen=True, slots=True)
class SiblingNodes:
    """The nodes that viewers reach directly (`playback.node_url`). id, site: of this node."""

    nodes: NodeList
    id: str
    site: str

    def url(self) -> str:
        """Returns the address of another node with free capacity, first of this site; "" if there is none.

        Chance decides, and more free capacity makes a node more likely. The figures are seconds old: if the freest node
        were chosen, it would get all refused viewers of that time.
        """
        self.nodes.request()
        found = [node for node in self.nodes.live.values() if self._takes_viewers(node)]
        near = [node for node in found if node.site == self.site]
        choice = near or found
        if not choice:
            return ""
        return random.choices(choice, [node.free for node in choice])[0].url  # noqa: S311 spreads load

    def _takes_viewers(self, node: Node) -> bool:
        is_other = host_of(node.id) != host_of(self.id)
        return is_other and bool(node.url) and not node.channel and node.free >= LEAST_FREE
