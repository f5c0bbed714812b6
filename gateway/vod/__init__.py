"""Video on demand: converts media files to HLS with a poster and a thumbnail, in jobs that can be cancelled."""
