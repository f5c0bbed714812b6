"""Worker processes that decode and encode: starts them, and defines the messages between parent and worker.

The parent process never imports the code of the workers (`gateway.workers.programs`).
"""
