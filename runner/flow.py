"""The flow of a run: every state in its order, what is tried again, and what is survived.

lock -> prepare (companion beside it) -> extract, source by source -> load -> changed? -> build ->
audit -> publish -> docs -> moderate? -> done, or wait for approval

The one place that declares it; `wellspring plan` prints it. To add a step, write its work in
`steps` or a module of its own and give it a place here. Left out: how a flow is carried through,
which `machine` knows.
"""

from __future__ import annotations

from ingestion.errors import IngestionError
from runner import steps
from runner.errors import AuditFailed, BuildFailed
from runner.machine import Catch, Choice, Fail, Flow, Map, Parallel, Succeed, Task, Wait
from runner.withholding import withhold_failed, withhold_sources, withhold_tested

FLOW = Flow(
    (
        Wait("lock", "Wait until no other run is under way."),
        Parallel(
            "begin",
            "Make ready.",
            branches=(
                Task("prepare", "Read the project and check every declaration.", steps.prepare),
                Task(
                    "companion",
                    "Start the companion, if a connection is likely to need it.",
                    steps.start_companion,
                    when=steps.wants_companion,
                ),
            ),
        ),
        Map(
            "extract",
            "Land what is new or changed in the sources.",
            over=lambda run: run.due_sources,
            label=lambda declaration: str(declaration.name),
            work=steps.extract_one,
            fault=lambda result: result.error,
            gather=steps.gather_sources,
            at_once=lambda run: run.settings.extract.parallel_sources,
            around=steps.reading,
            interrupt=steps.interrupt_reading,
            retries=True,
            catch=Catch(
                (IngestionError,),
                "The others go on; what is made from a failed source keeps its last good version.",
                withhold_sources,
            ),
        ),
        Task(
            "load",
            "Load landed files into raw tables, with the ledger.",
            steps.load_step,
            retries=True,
        ),
        Choice(
            "changed",
            "Have code or rows changed since the last audit that passed?",
            ask=lambda run: run.settled_by is None,
            otherwise="audit",
            needs=("build", "audit"),
            told=steps.nothing_to_build,
        ),
        Task(
            "build",
            "Build seeds and models with dbt.",
            steps.build_step,
            retries=True,
            catch=Catch(
                (BuildFailed,),
                "What is made from a failed model keeps its last good version; the rest goes on.",
                withhold_failed,
            ),
        ),
        Task(
            "audit",
            "Run the data tests and freshness checks.",
            steps.audit_step,
            retries=True,
            catch=Catch(
                (AuditFailed,),
                "As [failures] says, nothing is published or all that the failure does not touch.",
                withhold_tested,
            ),
        ),
        Task(
            "publish",
            "Publish what passed its audit, in one atomic swap.",
            steps.publish_step,
            retries=True,
        ),
        Task("docs", "Write the documentation.", steps.docs_step),
        Choice(
            "moderate",
            "Did every measure of what is published move no more than its gate allows?",
            ask=lambda run: run.published is None or run.published.held is None,
            otherwise="approval",
            needs=("publish",),
        ),
        Succeed("done", "The exit code is 0, or tells of the gravest fault that was survived."),
        Wait("approval", "Readers keep the former version until `wellspring approve`.", ends=True),
        Fail("failed", "Readers keep the former version; `wellspring resume` goes on from here."),
    )
)
