"""`./millpond chaos`: kills everything while requests flow, and counts what became of each.

    schedule.py  which fault comes when         load.py      what is sent
    faults.py    does the harm                  sending.py   sends it
    watch.py     what is seen meanwhile         verify.py    what became of every request
    report.py    the figures

schedule, load, verify and report are pure; run.py joins them.
"""
