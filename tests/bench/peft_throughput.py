"""The peer of train_throughput: PyTorch + transformers + PEFT on the same model, data and batch.

Prints one line of JSON with tokens per second; padding does not count. Arguments as there, and
--mode f32 | bf16 | autocast. Reads the f32 folder of the stored model, a Hugging Face folder.
"""

import argparse
import json
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def batches(data, size):
    """Each step's examples, padded on the right, as (ids, mask, labels, tokens)."""
    step = 0
    while True:
        items = [data[(step * size + i) % len(data)] for i in range(size)]
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--mode", choices=["f32", "bf16", "autocast"], required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    dtype = torch.bfloat16 if args.mode == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=16, lora_dropout=0.0,
                                             target_modules="all-linear"))
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0)
    with open(args.data) as file:
        source = batches(json.load(file), args.batch)
    tokens = 0
    begin = time.perf_counter()
    for step in range(args.steps):
        if step == args.warmup:
            tokens, begin = 0, time.perf_counter()
        ids, mask, labels, count = next(source)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.mode == "autocast"):
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += count
    seconds = time.perf_counter() - begin
    print(json.dumps({"tokens_per_second": tokens / seconds, "seconds": seconds,
                      "last_loss": loss.item(), "torch": torch.__version__}))


if __name__ == "__main__":
    main()
