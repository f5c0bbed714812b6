"""A stream in the forms that players fetch: feeds of shared bytes, segments, playlists."""
