"""Laws of recipes: an identity hashes all that can change weights and nothing else; a recipe that exists is valid."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from gsm_lab.errors import RecipeError
from gsm_lab.problems import rewards
from gsm_lab.study import (
    Blend,
    Evaluation,
    Experiment,
    Mixed,
    Optimization,
    Phase,
    Recipe,
    Reinforce,
    Scale,
    Supervised,
    Task,
    joined,
    load_experiment,
    load_recipe,
    mixture_of,
    uniform,
)

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "numpy", "pandas", "pyarrow"}

BASE = Supervised(
    name="base", blend=uniform(2, 3), steps=7, rows=2, row_length=128, optimization=Optimization(warmup_steps=1)
)
RL = Reinforce(
    name="RL",
    blend=uniform(4, 4),
    steps=3,
    prompts_per_step=2,
    samples_per_prompt=4,
    max_new_tokens=64,
    optimization=Optimization(learning_rate=1e-4),
)
RECIPE = Recipe(
    name="pinned",
    seed=0,
    task=Task(contexts=("zoo", "school"), frames="terse", facts=(2, 4), constants=(1, 3), modulus=5),
    scale=Scale(layers=1, width=32, heads=2, kv_heads=1, ffn=64, max_positions=256),
    stages=(BASE, RL),
    evaluation=Evaluation(ops=(2, 3, 4)),
)


def changed(recipe: Recipe, path: str, value: object) -> Recipe:
    """The recipe with another value at `stages.0.steps`, validated anew."""
    data = recipe.model_dump()
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = data
    for part in parents:
        target = target[part]
    assert last in target, path
    target[last] = value
    return Recipe.model_validate(data)


def test_the_identity_of_a_recipe_is_pinned():
    # Another number here means that every run on every disk is foreign from now on. If that is meant (a new field that
    # changes weights, a new INSTRUMENT), renew both with: print(RECIPE.stage_id(0), RECIPE.id, RECIPE.evaluation.id)
    assert (RECIPE.stage_id(0), RECIPE.id) == ("4a90e99b62326169", "fc87d2a11e25684e")
    assert RECIPE.evaluation.id == "c41373a108"


CHANGES_WEIGHTS = {
    "micro_batch_tokens": 4096,
    "task.depth": (1, 3),
    "task.distractor_kinds": ("independent",),
    "task.nested_totals": 0.5,
    "task.operation_weights": (1.0, 2.0, 1.0),
    "task.answers": (0, 3),
    "task.balanced": True,
    "task.form": "think",
    "task.checks": 0.5,
    "task.recovery": 0.5,
    "task.rules": True,
    "seed": 1,
    "task.contexts": ("school", "zoo"),
    "task.frames": "english",
    "task.sentence_order": "computation",
    "task.trace_order": "leaf_first",
    "task.facts": (2, 5),
    "task.implicit_totals": 0.0,
    "task.places": 5,
    "task.items": 5,
    "task.reuse": 0.0,
    "task.copies": 0.0,
    "task.width": (0, 2),
    "task.composites": 0.0,
    "task.operations": ("add",),
    "task.constants": (1, 4),
    "task.values": (0, 99),
    "task.modulus": 7,
    "scale.layers": 2,
    "scale.width": 64,
    "scale.heads": 4,
    "scale.kv_heads": 2,
    "scale.ffn": 65,
    "scale.max_positions": 257,
    "scale.rope_theta": 1e6,
    "scale.initial_std": 0.05,
    "stages.0.split": "midtrain",
    "stages.0.blend": {"ops": {2: 0.25, 3: 0.75}},
    "stages.0.curriculum": (Phase(problems=5, blend=uniform(2, 2)).model_dump(),),
    "stages.0.steps": 8,
    "stages.0.rows": 3,
    "stages.0.row_length": 64,
    "stages.0.loss_on": "all",
    "stages.0.jumping_documents": 0.5,
    "stages.0.jump_share": 0.1,
    "stages.0.longest_jump": 7,
    "stages.0.optimization.kind": "muon",
    "stages.0.optimization.learning_rate": 2e-3,
    "stages.0.optimization.matrix_learning_rate": 1e-2,
    "stages.0.optimization.betas": (0.9, 0.99),
    "stages.0.optimization.weight_decay": 0.1,
    "stages.0.optimization.gradient_clip": 0.5,
    "stages.0.optimization.warmup_steps": 2,
    "stages.0.optimization.schedule": "linear",
    "stages.0.optimization.min_share": 0.2,
    "stages.1.blend.unit": "tokens",
    "stages.1.blend.contexts": {"school": 1.0},
    "stages.1.steps": 4,
    "stages.1.prompts_per_step": 3,
    "stages.1.samples_per_prompt": 5,
    "stages.1.updates_per_rollout": 2,
    "stages.1.max_new_tokens": 65,
    "stages.1.temperature": 0.9,
    "stages.1.reward": "mix",
    "stages.1.reward_terms": ({"kind": "group_length", "weight": 0.5},),
    "stages.1.reward_bounds": (-1.0, 1.0),
    "stages.1.noise": {"false_positives": 0.1},
    "stages.1.normaliser": "constant",
    "stages.1.credit": "none",
    "stages.1.divide_by_std": True,
    "stages.1.clip_low": 0.1,
    "stages.1.clip_high": 0.3,
    "stages.1.kl_weight": 0.01,
    "stages.1.moving": {"explore": 0.3},
    "stages.1.optimization.learning_rate": 2e-4,
}
CHANGES_NO_WEIGHTS = {
    "name": "another",
    "stages.0.name": "another",
    "stages.1.name": "another",
    "stages.1.alpha": 0.25,  # the reward is strict: below
    "stages.1.refuse_constant_reward": False,
    "stages.1.most_truncated": 0.9,
    "evaluation": Evaluation(ops=(9,), contexts=("school",), problems_per_op=1, samples=1, seed=5).model_dump(),
    "save_every": 1,
}


@pytest.mark.parametrize("path", CHANGES_WEIGHTS)
def test_what_can_change_weights_changes_the_identity(path):
    assert changed(RECIPE, path, CHANGES_WEIGHTS[path]).id != RECIPE.id


@pytest.mark.parametrize("path", CHANGES_NO_WEIGHTS)
def test_what_cannot_change_weights_leaves_the_identity(path):
    other = changed(RECIPE, path, CHANGES_NO_WEIGHTS[path])
    assert other != RECIPE
    assert other.id == RECIPE.id


def test_every_field_is_in_one_of_the_two_lists():
    fields = {"seed", "name", "evaluation", "save_every", "micro_batch_tokens"}
    fields |= {f"task.{name}" for name in Task.model_fields}
    fields -= {"task.distractors", "task.mode"}  # they contradict task.facts and task.modulus: below
    fields |= {f"scale.{name}" for name in Scale.model_fields}
    for number, stage in enumerate(RECIPE.stages):
        own = set(type(stage).model_fields) - {"kind", "blend", "optimization"}
        fields |= {f"stages.{number}.{name}" for name in own}
    fields |= {f"stages.0.optimization.{name}" for name in Optimization.model_fields}
    fields |= {"stages.0.blend", "stages.1.blend.contexts", "stages.1.blend.unit"}
    fields -= {"stages.1.step_weight"}  # it is for the credit "steps" only: below
    assert fields - {*CHANGES_WEIGHTS, *CHANGES_NO_WEIGHTS} == set()


def test_distractors_and_mode_change_the_identity_too():
    recipe = changed(RECIPE, "task.facts", None)
    assert changed(recipe, "task.distractors", (1, 1)).id != recipe.id
    recipe = changed(RECIPE, "task.modulus", None)
    assert changed(recipe, "task.mode", "reverse").id != recipe.id


def test_the_weight_of_steps_is_for_their_credit_only():
    stepped = changed(RECIPE, "stages.1.credit", "steps")
    assert len({RECIPE.id, stepped.id, changed(stepped, "stages.1.step_weight", 0.5).id}) == 3
    with pytest.raises(ValidationError, match=r"step_weight is 0\.5 and credit 'group': give credit=\"steps\", too"):
        changed(RECIPE, "stages.1.step_weight", 0.5)
    with pytest.raises(ValidationError, match=r"step_weight is 0\.5, and divide_by_std undoes it"):
        changed(changed(stepped, "stages.1.step_weight", 0.5), "stages.1.divide_by_std", True)
    with pytest.raises(ValidationError, match="finite"):
        changed(stepped, "stages.1.step_weight", float("inf"))


def rewarded(**settings) -> Recipe:
    """The recipe with these settings of its reward."""
    return changed(RECIPE, "stages", [BASE.model_dump(), {**RL.model_dump(), **settings}])


def test_settings_of_a_reward_are_in_the_identity_where_they_do_something():
    assert rewarded(alpha=0.25).id == RECIPE.id
    assert rewarded(reward="mix", alpha=0.25).id != rewarded(reward="mix").id
    assert rewarded(reward="gated", alpha=0.25).id != rewarded(reward="gated").id
    assert rewarded(reward_terms=[{"kind": "format", "weight": 0}]).id == RECIPE.id
    assert rewarded(reward_terms=[{"kind": "format", "weight": 0.1}]).id != RECIPE.id
    assert rewarded(noise={"tied_to": "problem", "corrected": True}).id == RECIPE.id


def test_all_of_a_noise_that_errs_is_in_the_identity():
    noises = [
        {"false_positives": 0.1},
        {"false_negatives": 0.1},
        {"false_positives": 0.1, "false_negatives": 0.1},
        {"false_positives": 0.1, "tied_to": "problem"},
        {"false_positives": 0.1, "tied_to": "template"},
        {"false_positives": 0.1, "corrected": True},
    ]
    assert len({rewarded(noise=noise).id for noise in noises}) == len(noises)
    everywhere = rewarded(noise={"false_positives": 0.1, "contexts": ("zoo",)})
    assert everywhere.id == rewarded(noise=noises[0]).id
    both = {"blend": uniform(4, 4, ("zoo", "school")).model_dump()}
    partly = [
        rewarded(noise={"false_positives": 0.1, "contexts": names}, **both)
        for names in ((), ("zoo",), ("school",), ("zoo", "school"), ("school", "zoo"))
    ]
    assert len({one.id for one in partly}) == 3
    assert partly[0].id == partly[3].id == partly[4].id


def test_all_of_a_term_is_in_the_identity():
    def terms(*terms):
        return rewarded(reward_terms=terms).id

    linear = {"kind": "linear_length", "free": 8, "full": 32}
    others = [
        terms(linear),
        terms({**linear, "free": 9}),
        terms({**linear, "full": 33}),
        terms({**linear, "weight": 0.5}),
        terms({"kind": "group_length"}),
        terms({"kind": "language"}),
        terms({"kind": "format"}),
    ]
    assert len({*others}) == len(others)


def test_whole_numbers_and_values_made_in_python_make_the_same_recipe():
    terms, noise = [{"kind": "group_length", "weight": 1.0}], {"false_positives": 1.0}
    written = rewarded(reward_terms=terms, reward_bounds=(0.0, 1.0), noise=noise)
    made = Reinforce(
        **{
            **RL.model_dump(),
            "reward_terms": (rewards.GroupLength(weight=1),),
            "reward_bounds": (0, 1),
            "noise": rewards.Noise(false_positives=1),
        }
    )
    assert changed(RECIPE, "stages", [BASE, made]).id == written.id
    assert made == written.stages[1]
    assert hash(made) == hash(written.stages[1])


def test_the_composition_of_a_stage_is_what_the_recipe_says():
    stage = rewarded(
        reward="mix",
        alpha=0.25,
        reward_terms=[{"kind": "language"}],
        reward_bounds=(0, 1),
        noise={"false_negatives": 1},
    ).stages[1]
    assert stage.composition == rewards.Composition(
        reward="mix",
        alpha=0.25,
        terms=(rewards.Language(),),
        bounds=(0, 1),
        noise=rewards.Noise(false_negatives=1),
    )


def test_an_evaluation_is_named_by_all_its_settings():
    def named(**settings):
        return Evaluation(**{"ops": (2, 3), **settings}).id

    others = [
        named(ops=(2,)),
        named(contexts=("school",)),
        named(problems_per_op=63),
        named(samples=31),
        named(temperature=0.5),
        named(max_new_tokens=255),
        named(seed=1),
    ]
    assert len({named(), *others}) == len(Evaluation.model_fields) + 1
    assert named(samples=32) == named()


def test_stages_with_equal_upstream_are_one_stage():
    longer = changed(RECIPE, "stages", [BASE, BASE, RL])
    other = changed(RECIPE, "stages.1.steps", 9)
    assert longer.stage_id(0) == other.stage_id(0) == RECIPE.stage_id(0)
    assert other.stage_id(1) != RECIPE.stage_id(1)
    assert changed(other, "stages.0.steps", 8).stage_id(0) != RECIPE.stage_id(0)


def test_a_stage_after_another_upstream_is_another_stage():
    assert changed(RECIPE, "stages", [BASE, BASE, RL]).stage_id(2) != RECIPE.stage_id(1)


def test_a_cut_recipe_has_the_identity_of_its_last_stage():
    assert RECIPE.until(0).id == RECIPE.stage_id(0)
    assert RECIPE.until(1).id == RECIPE.id


def test_equal_recipes_have_equal_hashes():
    ops = uniform(2, 4)
    turned = ops.model_copy(update={"ops": dict(reversed(ops.ops.items()))})
    assert ops == turned
    assert hash(ops) == hash(turned)
    assert hash(ops) != hash(uniform(2, 5))


def test_the_order_in_which_shares_are_written_changes_nothing():
    one, other = Blend(ops={2: 0.25, 3: 0.75}), Blend(ops={3: 0.75, 2: 0.25})
    first, second = (changed(RECIPE, "stages.0.blend", blend.model_dump()) for blend in (one, other))
    assert first.id == second.id
    assert first.id != RECIPE.id


# ------------------------------------------------------------------------------------ valid from birth


@pytest.mark.parametrize(("value", "name"), [(RECIPE, "seed"), (BASE, "steps"), (RECIPE.task, "modulus")])
def test_a_recipe_and_its_parts_cannot_be_changed(value, name):
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, name, 1)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (Recipe, RECIPE.model_dump()),
        (Task, {}),
        (Scale, RECIPE.scale.model_dump()),
        (Supervised, BASE.model_dump()),
        (Reinforce, RL.model_dump()),
        (Evaluation, {"ops": (2,)}),
        (Blend, {"ops": {2: 1.0}}),
    ],
)
def test_a_field_that_does_not_exist_is_refused(model, settings):
    model.model_validate(settings)
    with pytest.raises(ValidationError, match=r"learning_rat\s+Extra inputs are not permitted"):
        model.model_validate({**settings, "learning_rat": 1})


@pytest.mark.parametrize("ops", [{2: 0.5, 3: 0.4}, {2: 1.0, 3: 0.1}, {}, {2: float("nan"), 3: 0.5}])
def test_shares_that_do_not_sum_to_one_are_refused(ops):
    with pytest.raises(ValidationError, match=r"the shares of ops .* give shares above 0 that sum to 1"):
        Blend(ops=ops)


@pytest.mark.parametrize("ops", [{2: 1.0, 3: 0.0}, {2: 1.5, 3: -0.5}])
def test_a_share_of_nothing_or_less_is_refused_although_the_sum_is_one(ops):
    with pytest.raises(ValidationError, match="leave out what shall not occur"):
        Blend(ops=ops)


def test_the_message_about_shares_gives_their_sum():
    with pytest.raises(ValidationError, match=r"contexts \{'zoo': 0.5, 'school': 0.3\} sum to 0.8"):
        Blend(ops={2: 1.0}, contexts={"zoo": 0.5, "school": 0.3})


def test_tenths_sum_to_one_in_spite_of_rounding():
    assert sum([0.1] * 10) != 1
    assert len(Blend(ops=dict.fromkeys(range(2, 12), 0.1)).ops) == 10


def test_a_context_that_the_task_does_not_name_is_refused():
    with pytest.raises(ValidationError, match=r"use the contexts \['festival', 'zoo'\], the task names .*school"):
        changed(RECIPE, "stages.1.blend.contexts", {"festival": 1.0})


def test_a_context_of_an_evaluation_or_a_phase_must_be_named_too():
    with pytest.raises(ValidationError, match=r"name all of them in task\.contexts"):
        changed(RECIPE, "evaluation.contexts", ("festival",))
    phase = Phase(problems=1, blend=Blend(ops={2: 1.0}, contexts={"festival": 1.0}))
    with pytest.raises(ValidationError, match=r"name all of them in task\.contexts"):
        changed(RECIPE, "stages.0.curriculum", [phase.model_dump()])


def test_a_reward_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match=r"there is no reward 'lenient': give one of outcome, process"):
        changed(RECIPE, "stages.1.reward", "lenient")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 1.5}, r"alpha=1\.5: give the share of the outcome"),
        ({"reward_terms": [{"kind": "length"}]}, r"'length' .*expected tags: 'linear_length', 'group_length'"),
        ({"reward_terms": [{"kind": "format", "wieght": 1}]}, "wieght\\s+Unexpected keyword argument"),
        ({"reward_terms": [{"kind": "format", "weight": -1}]}, "give 0 or more; penalties are negative already"),
        ({"reward_terms": [{"kind": "linear_length", "free": 9, "full": 9}]}, "give 0 <= free < full"),
        (
            {"reward_terms": [{"kind": "linear_length", "free": 64, "full": 99}]},
            "begins after 64 tokens and max_new_tokens is 64: give it a lower `free`",
        ),
        ({"reward_terms": [{"kind": "format"}, {"kind": "format"}]}, "give one of each, with one weight"),
        ({"reward_bounds": (1, 0)}, "give two finite numbers, the lesser first"),
        ({"noise": {"false_positive": 0.1}}, "false_positive\\s+Unexpected keyword argument"),
        ({"noise": {"false_positives": "often"}}, "Input should be a valid number"),
        ({"noise": {"false_positives": 1.5}}, r"false_positives=1\.5: give a chance, 0 to 1"),
        ({"noise": {"tied_to": "model"}}, "'sample', 'problem' or 'template'"),
        ({"noise": {"false_positives": 0.6, "false_negatives": 0.4, "corrected": True}}, "has nothing to correct by"),
        (
            {"noise": {"contexts": ["school"]}},
            r"noise is in the contexts \['school'\], the stage trains on \['zoo'\]: name contexts of the stage",
        ),
        ({"reward": "format", "noise": {"false_positives": 0.1}}, "leave the noise out, or give another reward"),
        ({"reward_bounds": (0, 1), "noise": {"corrected": True}}, "give the bounds or the correction"),
    ],
)
def test_a_reward_that_contradicts_itself_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        rewarded(**settings)


def test_a_length_penalty_may_begin_at_the_last_token():
    assert rewarded(reward_terms=[{"kind": "linear_length", "free": 63, "full": 99}])


def test_a_task_that_no_problem_can_meet_is_refused():
    with pytest.raises(ValidationError, match="constants must be below the modulus"):
        changed(RECIPE, "task.modulus", 3)


def test_a_recipe_has_a_stage_and_its_evaluation_asks_something():
    with pytest.raises(ValidationError, match="stages"):
        changed(RECIPE, "stages", [])
    for name, nothing in (("ops", ()), ("contexts", ()), ("problems_per_op", 0), ("samples", 0)):
        with pytest.raises(ValidationError, match=name):
            changed(RECIPE, f"evaluation.{name}", nothing)


def test_uniform_gives_every_op_and_context_the_same_share():
    blend = uniform(3, 6, contexts=("zoo", "school"))
    assert blend.ops == {3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}
    assert blend.contexts == {"zoo": 0.5, "school": 0.5}


def test_joined_blends_keep_their_shares():
    assert joined((0.2, uniform(2, 3)), (0.8, uniform(3, 4))).ops == pytest.approx({2: 0.1, 3: 0.5, 4: 0.4})


def test_parts_may_have_other_ops_in_other_contexts():
    mixed = Mixed(parts=((0.75, uniform(2, 3)), (0.25, uniform(4, 4, contexts=("school",)))))
    assert mixed.contexts == {"zoo": 0.75, "school": 0.25}
    slices = mixture_of(RECIPE.task, mixed).slices
    found = {(piece.context, piece.spec.op): piece.weight for piece in slices}
    assert found == pytest.approx({("zoo", 2): 0.375, ("zoo", 3): 0.375, ("school", 4): 0.25})
    stage = BASE.model_copy(update={"blend": mixed})
    assert Recipe.model_validate_json(RECIPE.model_copy(update={"stages": (stage,)}).model_dump_json()).stages == (
        stage,
    )


def test_one_part_is_not_another_identity_only():
    """A blend as the only part is told apart, but gives the same slices: no recipe is renamed without a reason."""
    whole = Mixed(parts=((1.0, BASE.blend),))
    assert mixture_of(RECIPE.task, whole) == mixture_of(RECIPE.task, BASE.blend)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        (((0.5, uniform(2, 3)), (0.4, uniform(4, 4))), r"sum to 0\.9"),
        (((1.0, uniform(2, 3)), (0.0, uniform(4, 4))), "above 0"),
        (((0.5, uniform(2, 3)), (0.5, uniform(4, 4, unit="tokens"))), "different units"),
        ((), "at least 1"),
    ],
)
def test_parts_that_make_no_sense_are_refused(parts, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Mixed(parts=parts)


def test_an_edge_does_not_move_in_parts():
    mixed = Mixed(parts=((0.5, uniform(2, 3)), (0.5, uniform(4, 4))))
    with pytest.raises(ValidationError, match="the blend of a moving edge has parts"):
        Reinforce.model_validate({**dict(RL), "blend": mixed, "moving": {"explore": 0.3}})


def test_a_context_may_bring_its_own_frames():
    task = Task(contexts=("zoo", "school:english"), frames="terse")
    assert task.template("zoo") == ("zoo", "terse")
    assert task.template("school:english") == ("school", "english")
    slices = mixture_of(task, uniform(2, 2, contexts=task.contexts)).slices
    assert {(piece.context, piece.frames) for piece in slices} == {("zoo", "terse"), ("school", "english")}


def test_the_content_of_a_contexts_frames_is_part_of_the_identity(tmp_path):
    frames = tmp_path / "own.toml"
    frames.write_text("one")
    task = Task(contexts=("zoo", f"school:{frames}"), frames="terse")
    before = task.files()
    frames.write_text("two")
    assert [*before] == [str(frames)] == [*task.files()]
    assert before != task.files()


def test_blends_of_other_contexts_are_not_joined():
    with pytest.raises(RecipeError, match="write the shares out instead"):
        joined((0.5, uniform(2, 3)), (0.5, uniform(2, 3, contexts=("school",))))


def test_shares_of_a_joint_must_sum_to_one():
    with pytest.raises(ValidationError, match=r"sum to 0\.7"):
        joined((0.2, uniform(2, 3)), (0.5, uniform(4, 5)))


# ------------------------------------------------------------------------------------ experiments


def modules_after(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after that code."""
    code += f"; import sys; print(*sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_recipes_are_listed_without_torch():
    code = "from gsm_lab.study import load_experiment; assert load_experiment('edge_of_competence').recipes"
    assert modules_after(code) == set()


def test_the_check_sees_a_heavy_import():
    assert modules_after("from gsm_lab.study import Job, StageFolder; import gsm_lab.data") == {"numpy", "pyarrow"}


def test_an_unknown_recipe_is_answered_with_the_known_ones(small, small_place):
    with pytest.raises(RecipeError, match=r"no recipe 'mid': give one of mid-rl, rl\."):
        load_recipe(f"{small_place}:mid")
    assert load_recipe(f"{small_place}:rl") == small.recipe("rl")


def test_an_unknown_experiment_is_answered_with_the_known_ones(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(RecipeError, match=r"no experiment 'edge': give a folder .*edge_of_competence"):
        load_experiment("edge")


def test_a_recipe_without_experiment_is_refused():
    with pytest.raises(RecipeError, match="write it as experiment:recipe"):
        load_recipe("rl-edge-seed0")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "from gsm_lab.study import Task\nTask(plcaes=3)",
            r"defines no valid recipes \(ValidationError\): (?s:.*)plcaes",
        ),
        ("from gsm_lab.study import uniform\nuniform(5, 4)", r"defines no valid recipes \(ZeroDivisionError\)"),
        ("EXPERIMENT = (", r"defines no valid recipes \(SyntaxError\)"),
        ("import gsm_labs", r"defines no valid recipes \(ModuleNotFoundError\): No module named 'gsm_labs'"),
        ("RECIPES = ()", "give the name EXPERIMENT"),
    ],
)
def test_a_folder_that_defines_no_experiment_is_refused(text, message, tmp_path):
    (tmp_path / "recipes.py").write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_experiment(tmp_path)
    assert str(tmp_path / "recipes.py") in str(caught.value)


def test_two_recipes_of_an_experiment_have_two_names(small):
    first, second = small.recipes
    with pytest.raises(ValidationError, match=r"the names \['mid-rl'\] stand for several recipes"):
        Experiment(
            name="x",
            title="x",
            recipes=(first, second.model_copy(update={"name": first.name})),
            bands=small.bands,
            baseline="base",
        )


def test_stages_that_a_table_could_not_tell_apart_are_refused(small):
    recipe = small.recipes[0]
    longer = recipe.stages[-1].model_copy(update={"steps": recipe.stages[-1].steps + 1})
    other = recipe.model_copy(update={"name": "longer", "stages": (*recipe.stages[:-1], longer)})
    settings = {"name": "x", "title": "x", "bands": small.bands, "baseline": "base"}
    with pytest.raises(ValidationError, match=r"several stages with seed 0 are called .*one in 'longer'"):
        Experiment(recipes=(recipe, other), **settings)
    assert Experiment(recipes=(recipe, other.model_copy(update={"seed": 1})), **settings)
    twice = recipe.model_copy(update={"stages": (recipe.stages[0], recipe.stages[0])})
    with pytest.raises(ValidationError, match="give every stage its own name"):
        Experiment(recipes=(twice,), **settings)


def test_what_could_not_be_reported_is_refused_before_it_is_run(small):
    settings = {"name": "x", "title": "x", "baseline": "base"}
    first, *others = small.recipes
    other = others[0].model_copy(update={"evaluation": first.evaluation.model_copy(update={"seed": 9})})
    with pytest.raises(ValidationError, match="are evaluated differently"):
        Experiment(recipes=(first, other), bands=small.bands, **settings)
    for bands in ({"edge": (50, 60)}, {"ID": first.evaluation.ops[:1] * 2}):
        with pytest.raises(ValidationError, match="give every band a tested op, and call one of them 'edge'"):
            Experiment(recipes=small.recipes, bands=bands, **settings)


def test_another_content_of_a_context_file_makes_another_recipe(tmp_path):
    zoo = ROOT / "gsm_lab" / "problems" / "contexts" / "zoo.toml"
    mine = tmp_path / "mine.toml"
    ids = []
    for animal in ("adult lions", "red ants"):
        mine.write_text(zoo.read_text().replace("adult lions", animal))
        blend = {"ops": {2: 1.0}, "contexts": {str(mine): 1.0}}
        stage = BASE.model_copy(update={"blend": Blend.model_validate(blend)})
        task = Task(contexts=(str(mine),))
        evaluation = Evaluation(ops=(2,), contexts=(str(mine),))
        recipe = Recipe(name="x", seed=0, task=task, scale=RECIPE.scale, stages=(stage,), evaluation=evaluation)
        ids.append(recipe.id)
    assert ids[0] != ids[1]
    mine.unlink()
    with pytest.raises(RecipeError, match="which cannot be read: give a TOML file"):
        assert recipe.id


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("stages.0.steps", 0),
        ("stages.0.rows", 0),
        ("stages.0.optimization.learning_rate", -1),
        ("stages.1.prompts_per_step", 0),
        ("stages.1.samples_per_prompt", 1),
        ("stages.1.temperature", 0),
        ("stages.1.clip_low", -1),
        ("stages.1.kl_weight", -1),
        ("scale.initial_std", -1),
        ("evaluation.temperature", -1),
        ("save_every", 0),
    ],
)
def test_a_setting_that_a_later_stage_would_refuse_is_refused_at_birth(path, value):
    with pytest.raises(ValidationError, match=path.rpartition(".")[2]):
        changed(RECIPE, path, value)


def test_the_baseline_is_a_stage(small):
    with pytest.raises(ValidationError, match=r"no stage has the baseline's name 'Base'"):
        Experiment(name="x", title="x", recipes=small.recipes, bands=small.bands, baseline="Base")
