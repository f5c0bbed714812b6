"""General tools without knowledge of the domain. All other packages may use them."""
