"""Where the processes run that load what strangers sent: they see one folder and reach nothing else.

`jobs.sandbox.choice.sandbox_of(settings)` gives the sandbox of this machine, its `cell(...)` what to start.
Empty otherwise, so that the launcher inside (`jobs.sandbox.stage`) imports nothing that it does not need.
"""
