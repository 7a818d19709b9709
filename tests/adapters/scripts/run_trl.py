"""Teaches a tiny model one problem in so many steps of SFTTrainer, then runs three of GRPOTrainer."""

import json
import sys

from tiny_model import tiny_model, tiny_tokenizer
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from gsm_lab.adapters import drawn_exercise, trl_dataset, trl_reward

folder, messages, lessons = sys.argv[1], sys.argv[2] == "messages", int(sys.argv[3])
temperature = float(sys.argv[4])
tokenizer = tiny_tokenizer()
model = tiny_model(tokenizer)
exercise = drawn_exercise(0, seed=0, ops=(2, 2), frames="terse", distractors=0)
dataset = trl_dataset([exercise] * 8, messages)
common = {
    "use_cpu": True,
    "bf16": False,
    "report_to": [],
    "save_strategy": "no",
    "logging_steps": 1,
    "output_dir": folder,
}

teacher = SFTTrainer(
    model,
    args=SFTConfig(
        max_steps=lessons,
        per_device_train_batch_size=1,
        learning_rate=3e-3,
        completion_only_loss=True,
        gradient_checkpointing=False,
        **common,
    ),
    train_dataset=dataset,
    processing_class=tokenizer,
)
if lessons:
    teacher.train()
trainer = GRPOTrainer(
    model,
    reward_funcs=trl_reward("mix", 0.5, end_ids=[tokenizer.eos_token_id]),
    args=GRPOConfig(
        max_steps=3,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=160,
        temperature=temperature,
        learning_rate=1e-6,
        log_completions=True,
        gradient_checkpointing=False,
        **common,
    ),
    train_dataset=dataset,
    processing_class=tokenizer,
)
trainer.train()
print(
    json.dumps(
        {"steps": trainer.state.global_step, "log": trainer.state.log_history, "completion": exercise.completion}
    )
)
