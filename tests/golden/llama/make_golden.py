#!/usr/bin/env python3
"""Writes the golden numbers of the Llama shape: what transformers and PEFT compute.

Reads smollm2_texts.txt beside it, and peft_folder/ in the folder that it writes to.

Run by hand when a golden is added (see ../README.md for the command); its outputs are committed
and the C++ tests compare with them, so a build needs no Python. Everything is float32 on one
thread with the attention implementation "eager", except the losses that say bf16.

What is drawn at random comes from fixed seeds; what C++ must be able to repeat (the adapters'
first A) comes from initial_a() below, which uses only integer arithmetic and IEEE operations.
"""

import argparse
import json
import math
import pathlib
import shutil

import numpy as np
import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS = 50
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"

# The settings of the training goldens. Fields bear PEFT's and Hugging Face's names.
# examples_per_pass: a step's examples are accumulated in passes of this many.
SETTINGS = {
    "all_linear": dict(
        rank=4, lora_alpha=8, use_rslora=False, target_modules=PROJECTIONS, seed=1,
        learning_rate=1e-3, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.0,
        lr_scheduler_type="linear", warmup_steps=5, max_grad_norm=4.0, examples_per_pass=4),
    "attention_rslora": dict(
        rank=8, lora_alpha=16, use_rslora=True, target_modules=["q_proj", "v_proj"], seed=2,
        learning_rate=1e-3, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.01,
        lr_scheduler_type="cosine", warmup_steps=0, max_grad_norm=0.05, examples_per_pass=2),
    "smollm2": dict(
        rank=2, lora_alpha=4, use_rslora=False, target_modules=["q_proj", "v_proj"], seed=3,
        learning_rate=1e-3, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.0,
        lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=1.0, examples_per_pass=2,
        batch_size=2),
    # Losses only. Eight examples a step, as in real use, average bf16's rounding.
    "smollm2_batch8": dict(
        rank=2, lora_alpha=4, use_rslora=False, target_modules=["q_proj", "v_proj"], seed=3,
        learning_rate=1e-3, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-8, weight_decay=0.0,
        lr_scheduler_type="constant", warmup_steps=0, max_grad_norm=1.0, examples_per_pass=8,
        batch_size=8),
}


# ---- models ---------------------------------------------------------------------------------

def random_model(config, seed, embedding_std):
    """A Llama whose weights are normal: 0.15 in the linears, norms around 1."""
    model = transformers.LlamaForCausalLM._from_config(
        config, attn_implementation=ATTENTION, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0.0, 1.0, generator=generator)
            if "norm" in name:
                weight.mul_(0.1).add_(1.0)
            else:
                weight.mul_(embedding_std if "embed" in name or "lm_head" in name else 0.15)
    return model.eval()


def tiny():
    return random_model(transformers.LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=176, num_hidden_layers=3,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}), 11, 0.3)


def tiny_untied():
    """Odd sizes; heads x head_dim is not hidden; wavelengths in all three zones of llama3 RoPE."""
    return random_model(transformers.LlamaConfig(
        vocab_size=193, hidden_size=54, intermediate_size=72, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=3, head_dim=32, max_position_embeddings=512,
        rms_norm_eps=1e-6, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0,
                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 64}), 12, 0.3)


def classic_config(folder):
    """Rewrites config.json with the field names that transformers used before version 5."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation=ATTENTION).eval()


def load_smollm2(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=GGUF_NAME, dtype=torch.float32, attn_implementation=ATTENTION).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder, gguf_file=GGUF_NAME)


# ---- adapters -------------------------------------------------------------------------------

def splitmix64(seed, count):
    """Outputs 0..count-1 of the generator SplitMix64 started at `seed`."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def initial_a(model, setting):
    """The first A of every adapted linear, in the order of layers and, in each, of PROJECTIONS.

    Element n, counted row by row through all these matrices from 0, is
      (2 u - 1) / sqrt(K) in float64, rounded to float32,
      u = (splitmix64 output n >> 40) * 2^-24, K the input features of its linear.
    """
    modules = [(name, module) for name, module in model.named_modules()
               if isinstance(module, peft.tuners.lora.Linear)]
    modules.sort(key=lambda m: (int(m[0].split("layers.")[1].split(".")[0]),
                                PROJECTIONS.index(m[0].rsplit(".", 1)[1])))
    shapes = [module.lora_A["default"].weight.shape for _, module in modules]
    stream = splitmix64(setting["seed"], sum(shape.numel() for shape in shapes))
    u = (stream >> np.uint64(40)).astype(np.float64) * 2.0**-24
    begin = 0
    for (_, module), shape in zip(modules, shapes):
        values = (2.0 * u[begin:begin + shape.numel()] - 1.0) / math.sqrt(shape[1])
        begin += shape.numel()
        with torch.no_grad():
            module.lora_A["default"].weight.copy_(
                torch.from_numpy(values.astype(np.float32)).reshape(shape))


def with_new_adapter(model, setting, base_name):
    config = peft.LoraConfig(
        r=setting["rank"], lora_alpha=setting["lora_alpha"], lora_dropout=0.0, bias="none",
        use_rslora=setting["use_rslora"], target_modules=setting["target_modules"],
        task_type="CAUSAL_LM", base_model_name_or_path=base_name)
    model = peft.get_peft_model(model, config)
    model.peft_config["default"].base_model_name_or_path = base_name
    initial_a(model, setting)
    return model


def save_adapter(model, folder):
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    # PEFT writes this set in an order that changes from run to run.
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


# ---- data -----------------------------------------------------------------------------------

def tiny_sequences(vocab_size, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, vocab_size, size=length).tolist() for length in (1, 17, 64)]


def tiny_steps():
    """50 steps of 4 examples: a noisy arithmetic rule, so that there is something to learn.

    Lengths 5..40. The first third (at least one token) is a prompt without labels; every fifth
    example has a second, unlabelled stretch, as a chat of two turns has.
    """
    rng = np.random.default_rng(21)
    steps = []
    for step in range(STEPS):
        examples = []
        for i in range(4):
            length = int(rng.integers(5, 41))
            ids = [int(rng.integers(3, 320))]
            while len(ids) < length:
                follow = 3 + (5 * ids[-1] + 7) % 61
                ids.append(follow if rng.random() < 0.9 else int(rng.integers(3, 320)))
            prompt = max(1, length // 3)
            labels = [-100] * prompt + ids[prompt:]
            if (4 * step + i) % 5 == 0:
                middle = prompt + (length - prompt) // 3
                labels[middle:middle + 2] = [-100] * 2
            examples.append({"ids": ids, "labels": labels})
        steps.append(examples)
    return steps


def smollm2_steps(tokenizer, batch_size):
    """50 steps of texts of at most 64 tokens; every other text begins with an unlabelled prompt.

    The texts are Debian's package descriptions. They are many labelled tokens of ordinary prose,
    so that the losses stay far from 0 and rounding averages out.
    """
    texts = (pathlib.Path(__file__).parent / "smollm2_texts.txt").read_text().splitlines()
    examples = []
    for i, text in enumerate(texts[:batch_size * STEPS]):
        ids = tokenizer(text, add_special_tokens=False).input_ids[:64]
        prompt = 8 if i % 2 else 0
        examples.append({"ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    assert len(examples) == batch_size * STEPS
    return [examples[batch_size * i:batch_size * (i + 1)] for i in range(STEPS)]


def chat(tokenizer, question):
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=True,
        return_dict=False)


# ---- what is computed -----------------------------------------------------------------------

def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float().contiguous()


def summed_loss(model, examples):
    """Sum of the cross entropies of all labelled tokens; right padding, with a mask.

    labels[i] is ids[i] or -100 and is predicted at position i - 1; labels[0] is not used. The cross
    entropy is taken in float64 of the float32 logits: over SmolLM2's 49,152 entries the float32
    one of torch reads 8.6e-6 too low at every token (see ../README.md).
    """
    length = max(len(e["ids"]) for e in examples)
    ids = torch.zeros(len(examples), length, dtype=torch.long)
    labels = torch.full((len(examples), length), -100)
    mask = torch.zeros(len(examples), length, dtype=torch.long)
    for row, e in enumerate(examples):
        n = len(e["ids"])
        ids[row, :n], labels[row, :n], mask[row, :n] = (
            torch.tensor(e["ids"]), torch.tensor(e["labels"]), 1)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].double()
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1),
                           ignore_index=-100, reduction="sum")


def accumulate_gradients(model, examples, setting, autocast=False):
    """Leaves the gradients of the step's loss in the parameters; returns the loss."""
    labelled = sum(label != -100 for e in examples for label in e["labels"][1:])
    loss = 0.0
    for begin in range(0, len(examples), setting["examples_per_pass"]):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            part = summed_loss(model, examples[begin:begin + setting["examples_per_pass"]])
        part = part / labelled
        part.backward()
        loss += part.item()
    return loss


def train(model, steps, setting, autocast=False):
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=setting["learning_rate"], eps=setting["adam_epsilon"],
        betas=(setting["adam_beta1"], setting["adam_beta2"]), weight_decay=setting["weight_decay"])
    scheduler = transformers.get_scheduler(
        setting["lr_scheduler_type"], optimizer, num_warmup_steps=setting["warmup_steps"],
        num_training_steps=len(steps))
    losses, norms, rates = [], [], []
    for examples in steps:
        optimizer.zero_grad()
        losses.append(accumulate_gradients(model, examples, setting, autocast))
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, setting["max_grad_norm"]).item())
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"loss": losses, "grad_norm": norms, "learning_rate": rates}


def greedy(model, prompt, count):
    """`count` tokens, not stopped by an end token; margin = best logit minus the second best."""
    ids, margins = list(prompt), []
    for _ in range(count):
        top = torch.topk(logits_of(model, ids)[-1], 2)
        ids.append(top.indices[0].item())
        margins.append((top.values[0] - top.values[1]).item())
    return {"prompt": list(prompt), "tokens": ids[len(prompt):], "margins": margins}


# ---- the files ------------------------------------------------------------------------------

def write_json(path, value):
    path.write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n")


def write_tiny_models(out):
    sequences = {}
    for name, make, seed in (("tiny", tiny, 13), ("tiny_untied", tiny_untied, 14)):
        model = make()
        model.save_pretrained(out / name)
        (out / name / "generation_config.json").unlink(missing_ok=True)
        sequences[name] = tiny_sequences(model.config.vocab_size, seed)
    classic_config(out / "tiny_untied")
    write_json(out / "sequences.json", sequences)
    for name, lists in sequences.items():
        model = load(out / name)
        logits = {f"logits_{i}": logits_of(model, ids) for i, ids in enumerate(lists)}
        save_file(logits, out / f"logits_{name}.safetensors")
        print(name, "spread of the logits", logits["logits_2"].std().item())


def write_tiny_training(out, name):
    setting = SETTINGS[name]
    steps = tiny_steps()
    write_json(out / "train_data.json", {"steps": steps})
    model = with_new_adapter(load(out / "tiny"), setting, "tiny")
    save_adapter(model, out / "adapters" / f"{name}_initial")
    result = train(model, steps, setting)
    save_adapter(model, out / "adapters" / f"{name}_final")
    write_json(out / f"train_{name}.json", {"setting": setting, **result})
    print(name, result["loss"][0], result["loss"][-1], "norms", min(result["grad_norm"]),
          max(result["grad_norm"]))


def with_adapter(base, out, name):
    return peft.PeftModel.from_pretrained(base, out / "adapters" / name).eval()


def write_gradients(out):
    """Gradients of the first step's loss at the trained adapter, where A's are not zero."""
    model = peft.PeftModel.from_pretrained(
        load(out / "tiny"), out / "adapters" / "all_linear_final", is_trainable=True)
    loss = accumulate_gradients(model, tiny_steps()[0], SETTINGS["all_linear"])
    gradients = {name.replace(".default.", "."): p.grad.contiguous()
                 for name, p in model.named_parameters() if p.requires_grad}
    gradients["loss"] = torch.tensor([loss], dtype=torch.float32)
    save_file(gradients, out / "gradients_all_linear.safetensors")


def write_merged(out, name):
    ids = json.loads((out / "sequences.json").read_text())["tiny"][1]
    model = with_adapter(load(out / "tiny"), out, f"{name}_final")
    tensors = {"logits_adapter": logits_of(model, ids)}
    merged = model.merge_and_unload()
    tensors["logits_merged"] = logits_of(merged, ids)
    key = "model.layers.0.self_attn.q_proj.weight"
    tensors[key] = merged.state_dict()[key].contiguous()
    save_file(tensors, out / f"merged_{name}.safetensors")


def write_peft_folder_logits(out):
    """What PEFT makes of out/peft_folder, which tests/golden/peft_folder_test.cc writes."""
    ids = json.loads((out / "sequences.json").read_text())["tiny"][1]
    base = load(out / "tiny")
    tensors = {"logits_base": logits_of(base, ids)}
    adapted = peft.PeftModel.from_pretrained(base, out / "peft_folder").eval()
    tensors["logits"] = logits_of(adapted, ids)
    save_file(tensors, out / "peft_folder_logits.safetensors")


def write_smollm2(out, folder):
    base, tokenizer = load_smollm2(folder)
    capital = chat(tokenizer, "What is the capital of France?")
    answer = tokenizer.decode(greedy(base, capital, 7)["tokens"])
    assert answer == "The capital of France is Paris.", answer

    text = "The old lighthouse keeper climbed the stairs slowly, because the storm had"
    prompts = [capital, tokenizer(text, add_special_tokens=False).input_ids]
    tensors, described = {}, []
    for i, ids in enumerate(prompts):
        positions = [0, len(ids) // 3, 2 * len(ids) // 3, len(ids) - 1]
        logits = logits_of(base, ids)[positions]
        top = torch.topk(logits, 20)
        tensors[f"every_16th_{i}"] = logits[:, ::16].contiguous()
        tensors[f"top_{i}"] = top.values.contiguous()
        described.append({"text": tokenizer.decode(ids), "ids": ids, "positions": positions,
                          "top_ids": top.indices.tolist()})
    save_file(tensors, out / "smollm2_logits.safetensors")
    write_json(out / "smollm2_logits.json", {"prompts": described})

    sea = chat(tokenizer, "Tell me about the sea.")
    generations = [{"base": "smollm2", "adapter": "", **greedy(base, sea, 24)}]

    model = with_new_adapter(base, SETTINGS["smollm2"], "HuggingFaceTB/SmolLM2-135M-Instruct")
    for name in ("smollm2", "smollm2_batch8"):
        setting = SETTINGS[name]
        steps = smollm2_steps(tokenizer, setting["batch_size"])
        begin_again(model, setting)
        result = train(model, steps, setting)
        if name == "smollm2":
            save_adapter(model, out / "adapters" / "smollm2_final")
            generations.append({"base": "smollm2", "adapter": "smollm2_final",
                                **greedy(model.eval(), sea, 24)})
        begin_again(model, setting)
        half = train(model, steps, setting, autocast=True)
        write_json(out / f"train_{name}.json", {"setting": setting, "steps": steps, **result,
                                                "loss_bf16_autocast": half["loss"]})
        difference = [b - a for a, b in zip(result["loss"], half["loss"])]
        print(name, result["loss"][0], result["loss"][-1], "bf16 - f32: mean",
              sum(difference) / len(difference), "largest", max(map(abs, difference)))
    return generations


def begin_again(model, setting):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.zero_()
    initial_a(model, setting)


def write_tiny_generations(out):
    prompt = json.loads((out / "sequences.json").read_text())["tiny"][1][:8]
    generations = [{"base": "tiny", "adapter": "", **greedy(load(out / "tiny"), prompt, 24)}]
    for name in ("all_linear_final", "attention_rslora_final"):
        model = with_adapter(load(out / "tiny"), out, name)
        generations.append({"base": "tiny", "adapter": name, **greedy(model, prompt, 24)})
    return generations


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smollm2", type=pathlib.Path, required=True,
                        help=f"folder that holds {GGUF_NAME}")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--attention", default="eager", choices=["eager", "sdpa"])
    arguments = parser.parse_args()
    out = arguments.out
    global ATTENTION
    ATTENTION = arguments.attention

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(out / "adapters", ignore_errors=True)
    write_tiny_models(out)
    for name in ("all_linear", "attention_rslora"):
        write_tiny_training(out, name)
        write_merged(out, name)
    write_gradients(out)
    write_peft_folder_logits(out)
    generations = write_tiny_generations(out) + write_smollm2(out, arguments.smollm2)
    for g in generations:
        print(g["base"], g["adapter"], "smallest margin", min(g["margins"]))
    write_json(out / "generation.json", {"generations": generations})
    for path in out.rglob("*.safetensors"):
        path.chmod(0o644)
    write_json(out / "made_with.json", {
        "torch": torch.__version__, "transformers": transformers.__version__,
        "peft": peft.__version__, "numpy": np.__version__, "attention": ATTENTION})


if __name__ == "__main__":
    main()
