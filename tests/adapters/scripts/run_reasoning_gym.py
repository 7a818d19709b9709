"""What reasoning-gym's own tests ask of every data set, asked of ours: determinism, sizes, scores, fresh chunks."""

import json

import reasoning_gym
from reasoning_gym.composite import DatasetSpec
from reasoning_gym.dataset import ReseedingDataset
from reasoning_gym.factory import CURRICULA, DATASETS

import gsm_lab.adapters.reasoning_gym

assert DATASETS["gsm_lab"][0] is gsm_lab.adapters.reasoning_gym.GsmLabDataset
checked = []
for form in ("steps", "think", "answer_only"):
    options = {"size": 10, "min_op": 3, "max_op": 6, "form": form, "settings": {"distractors": 1}}
    dataset = reasoning_gym.create_dataset("gsm_lab", seed=1234, **options)
    items = list(dataset)
    assert len(items) == len(dataset) == 10
    assert items == list(reasoning_gym.create_dataset("gsm_lab", seed=1234, **options))
    assert items == list(dataset)
    assert items != list(reasoning_gym.create_dataset("gsm_lab", seed=1235, **options))
    for item in items:
        assert set(item) == {"question", "answer", "metadata"}
        assert isinstance(item["question"], str)
        assert isinstance(item["answer"], str)
        assert item["metadata"]["source_dataset"] == "gsm_lab"
        assert 3 <= item["metadata"]["op"] <= 6
        assert dataset.score_answer(item["answer"], item) == 1.0
        json.dumps(item)
        # the base class would pay for the right answer inside a longer text
        for wrong in (None, "", "wrong", f"{item['answer']} or {item['metadata']['value'] + 1}"):
            assert dataset.score_answer(wrong, item) == 0.0, wrong
    if form == "steps":
        assert dataset.score_answer(str(items[0]["metadata"]["value"]), items[0]) == 0.0
        mixed = reasoning_gym.create_dataset("gsm_lab", seed=1234, reward="process", **options)
        assert 0 < mixed.score_answer(items[0]["answer"].rsplit(".", 3)[0] + ".", items[0]) <= 1
    endless = ReseedingDataset(dataset, chunk_size=3)
    first = [item["question"] for _, item in zip(range(10), endless, strict=False)]
    assert first == [item["question"] for _, item in zip(range(10), endless, strict=False)]
    assert len(set(first)) == 10  # with seed + index, chunks would share items
    composite = reasoning_gym.create_dataset(
        "composite", seed=1, size=4, datasets=[DatasetSpec(name="gsm_lab", weight=1, config=options)]
    )
    assert all(composite.score_answer(item["answer"], item) == 1.0 for item in composite)
    checked.append(form)

refused = []
for bad in ({"min_op": 5, "max_op": 4}, {"size": 0}, {"min_op": 0}, {"context": "none"}, {"reward": "none"}):
    try:
        reasoning_gym.create_dataset("gsm_lab", seed=0, **bad)
    except ValueError:
        refused.append(next(iter(bad)))

curriculum = CURRICULA["gsm_lab"]()
levels = []
for _ in range(2):
    config = curriculum.generate_configuration({"seed": 1, "size": 3})
    config.validate()
    levels.append([config.min_op, config.max_op])
    curriculum.increment_attr_level("op")
print(json.dumps({"checked": checked, "refused": refused, "levels": levels}))
