"""Rewards responses to our rows by verl's reward manager, from a file, with no gsm_lab on the path."""

import importlib.util
import json
import sys

import torch
from hydra import compose, initialize_config_module
from tiny_model import tiny_tokenizer
from verl import DataProto
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

folder = sys.argv[1]
assert importlib.util.find_spec("gsm_lab") is None
settings = [
    f"data.train_files={folder}/train.parquet",
    f"data.val_files={folder}/train.parquet",
    f"reward.custom_reward_function.path={folder}/reward.py",
    "reward.custom_reward_function.name=compute_score",
    "+reward.custom_reward_function.reward_kwargs.reward=mix",
    "+reward.custom_reward_function.reward_kwargs.alpha=0.25",
]
with initialize_config_module("verl.trainer.config", version_base=None):
    config = compose("ppo_trainer", settings)
tokenizer = tiny_tokenizer()
dataset = RLHFDataset(config.data.train_files, tokenizer, config.data)
manager = load_reward_manager(config, tokenizer)


def scored(row: dict, response: str) -> dict:
    ids = torch.tensor([tokenizer(response)["input_ids"]])
    prompt = torch.tensor([tokenizer(row["raw_prompt"][0]["content"])["input_ids"]])
    batch = collate_fn([dict(row)])
    batch.update(
        prompts=prompt, responses=ids, attention_mask=torch.ones(1, prompt.shape[1] + ids.shape[1], dtype=torch.long)
    )
    data = DataProto.from_single_dict(batch)
    return manager.loop.run_until_complete(manager.run_single(data))


sources, uids, infos = [], [], {}
for index in range(len(dataset)):
    row = dataset[index]
    gold = json.loads(row["reward_model"]["ground_truth"])["completion"]
    for response in (gold, "I do not know."):
        result = scored(row, response)
        sources.append(row["data_source"])
        uids.append(str(index))
        for key, value in {"reward": result["reward_score"], **result["reward_extra_info"]}.items():
            infos.setdefault(key, []).append(value)
metrics = process_validation_metrics(sources, uids, infos)
print(json.dumps({"rewards": infos["reward"], "pred": infos["pred"], "metrics": metrics}))
