"""Speech to text: the engines, and the worker that runs one of them on the sound of a stream."""
