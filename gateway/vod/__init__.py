"""Video on demand: a film becomes HLS with a poster and a thumbnail, as a job that can be watched and cancelled."""
