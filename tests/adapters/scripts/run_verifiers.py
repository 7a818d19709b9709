"""Scores gold, cut and wrong replies to the first tasks of a file of rows, as a rollout would."""

import asyncio
import json
import sys

import verifiers.v1 as vf
from verifiers.v1.types import AssistantMessage
from verifiers.v1.utils.loaders import taskset_class


def trace_of(task: vf.Task, reply: str, cut: bool) -> vf.Trace:
    node = vf.MessageNode(message=AssistantMessage(content=reply), sampled=True)
    call = vf.ModelCall(node=0, finish_reason="length" if cut else "stop")
    info = vf.AgentInfo(config=vf.AgentConfig())
    return vf.Trace(task=vf.TraceTask(type=type(task).__name__, data=task.data), agent=info, nodes=[node], calls=[call])


async def main() -> None:
    taskset_type = taskset_class("gsm_tasks")
    config_type = taskset_type.__orig_bases__[0].__args__[1]
    config = config_type(id="gsm_tasks", rows=sys.argv[1], task={"reward": "mix", "alpha": 0.25})
    results = []
    for task in taskset_type(config):
        gold = json.loads(task.data.exercise)["completion"]
        for reply, cut in ((gold, False), (gold, True), ("I do not know.", False)):
            trace = trace_of(task, reply, cut)
            await task.score(trace)
            results.append({"reward": trace.reward, "metrics": trace.metrics})
    print(json.dumps(results))


asyncio.run(main())
