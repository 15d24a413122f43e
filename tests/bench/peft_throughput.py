"""The peer of train_throughput: PyTorch + transformers + PEFT on the same model, data and batch.

Prints one line of JSON with tokens per second; padding does not count. Arguments as there, and
--mode f32 | bf16 | autocast. Several jobs train one after the other, each with a fresh model; only
their timed steps count. Reads the f32 folder of the stored model, a Hugging Face folder.
"""

import argparse
import json
import random
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def batches(data, size):
    """Each step's examples, of similar length, padded on the right, as (ids, mask, labels, tokens)."""
    data = sorted(data, key=lambda item: len(item["ids"]))
    chunks = [data[i:i + size] for i in range(0, len(data) - size + 1, size)]
    random.Random(7).shuffle(chunks)
    step = 0
    while True:
        items = chunks[step % len(chunks)]
        width = max(len(item["ids"]) for item in items)
        ids = torch.zeros(size, width, dtype=torch.long)
        mask = torch.zeros(size, width, dtype=torch.long)
        labels = torch.full((size, width), -100)
        for row, item in enumerate(items):
            n = len(item["ids"])
            ids[row, :n] = torch.tensor(item["ids"])
            mask[row, :n] = 1
            labels[row, item["prompt_tokens"]:n] = ids[row, item["prompt_tokens"]:n]
        yield ids, mask, labels, sum(len(item["ids"]) for item in items)
        step += 1


def train(args, data, rank, examples):
    """(tokens, seconds, loss, first step's end on CLOCK_MONOTONIC) of one job; the first two are
    those of its timed steps."""
    torch.manual_seed(1)
    dtype = torch.bfloat16 if args.mode == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=16, lora_dropout=0.0,
                                             target_modules="all-linear"))
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    source = batches(data, examples)
    tokens = 0
    begin = first_step_at = time.monotonic()
    for step in range(args.steps):
        if step == args.warmup:
            tokens, begin = 0, time.monotonic()
        ids, mask, labels, count = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.mode == "autocast"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += count
        if step == 0:
            first_step_at = time.monotonic()
    return tokens, time.monotonic() - begin, loss.item(), first_step_at


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mode", choices=["f32", "bf16", "autocast"], required=True)
    parser.add_argument("--job", action="append", help="RANK:EXAMPLES of a step")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with open(args.data) as file:
        data = json.load(file)
    jobs = [tuple(map(int, job.split(":"))) for job in args.job or ["16:8"]]
    tokens, seconds, losses, first_step_at = zip(*(train(args, data, *job) for job in jobs))
    print(json.dumps({"tokens_per_second": sum(tokens) / sum(seconds), "seconds": sum(seconds),
                      "last_losses": losses, "first_step_at": first_step_at[0], "torch": torch.__version__,
                      "peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


if __name__ == "__main__":
    main()
