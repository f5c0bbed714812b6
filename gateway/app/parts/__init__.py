"""The services of a gateway, in the order in which `gateway_parts.py` opens them. An edge uses none of them."""
