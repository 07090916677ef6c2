"""What clients may say and how they are answered: requests rebuilt, streams and answers counted and renamed.

- bodies.py    requests rebuilt from an allowlist of fields: the door of this package; plain.py: a short way to the
               same, with the structs of plain_bodies.py
- paths.py     the allowlists, one Surface a path; parts.py, items.py, blocks.py, texts.py: what may stand inside
- call.py      Surface and Call, the nouns of all of them
- sse.py       streams, event by event; frames.py: a short way for most of them; relayed.py: text kept to be counted
- answers.py   answers in one piece, and the engine's errors; engine.py: the shapes of what engines send
- estimate.py  what an engine is asked where it was cut off before it counted
- models.py    the list of models
"""
