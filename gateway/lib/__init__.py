"""General tools that do not know media or channels. All other packages may use them."""
