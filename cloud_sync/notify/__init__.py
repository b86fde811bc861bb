"""Messages to people: which alarms, to which addresses, when, and how they get there; ``docs/alarms.md``.

Bottom up: ``send`` is the process that sends one message, ``news`` what is said, ``target`` one address, ``channel``
those of one file, ``notifier`` the part that runs.
"""
