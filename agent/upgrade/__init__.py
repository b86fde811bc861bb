"""``enlace upgrade``: a signed package becomes the running version, or nothing changes.

Rules of this package:

1. Nothing of a package is parsed, but for one length, and nothing of it is run before its signature was found right.
2. A version has an environment of its own (``envs/<version>``), made at its final place. The running one is never
   written to. Which one runs is one symbolic link, ``current``, that is replaced in one rename.
3. Before each step that a cut could leave half done, the journal says what is being done (``layout.py``). Until the new
   version has passed its gate a cut means: the former version, at the next start.
4. What undoes a cut upgrade is the program of ``good``: the last version that passed a gate, never the one on trial.
5. Files between this command and the gateway stand in ``data_dir`` (``letters.py``): the gateway needs no rights on its
   own program, this command needs no account at the gateway.
"""
