"""Inside the ``tune`` stage: search spaces, the search, measuring, and the records that stay.

    space → search → loop ⇄ measurer (local workers, …) → record_store

``tune`` and ``records`` are the command lines around it.
"""
