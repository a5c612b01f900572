"""Inside the command ``tune``: the search, and the measuring that it takes.

    scheduling.space → search → loop ⇄ measuring (workers here, a farm, a model) → database

``tune`` is the command line around it.
"""
