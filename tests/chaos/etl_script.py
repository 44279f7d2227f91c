"""A script with a flow that is stopped in its last task, for processes as a user starts them."""

from __future__ import annotations

__all__ = ["ETL"]

ETL = """
import pathlib, time, uuid
from daskflow import flow, task
HERE = pathlib.Path(__file__).parent

@task(persist_result=True)
def clean(n):
    (HERE / f"clean{n}-{uuid.uuid4().hex}").touch()
    return n

@task
def slow(n):
    (HERE / "slow").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return n

@flow
def etl():
    cleaned = clean.map(range(8)).result()
    return sum(cleaned) + slow.submit(1).result()
"""
