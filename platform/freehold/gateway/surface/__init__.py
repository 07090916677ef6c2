"""What clients may say and how they are answered: requests rebuilt, streams and answers counted and renamed.

- bodies.py   requests rebuilt from an allowlist of fields, one Surface a path; parts.py: what may stand inside messages
- sse.py      streams, frame by frame; answers.py: answers in one piece; usage.py: the shapes in which engines count
"""
