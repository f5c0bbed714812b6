"""Worker processes that decode and encode: starts them, and defines the messages between gateway and worker.

The gateway never imports the code of the workers (`gateway.workers.programs`).
"""
