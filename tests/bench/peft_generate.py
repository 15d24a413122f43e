"""The peer of generate_throughput: transformers' generate() with PEFT adapters, greedy, KV cache.

Prints one line of JSON with the tokens per second after each stream's first token. Arguments as
there, and --mode f32 | bf16. Several streams are one batch, each row with its own adapter (PEFT's
`adapter_names`). Reads the f32 folder of the stored model, a Hugging Face folder.
"""

import argparse
import json
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList


class Stopwatch(StoppingCriteria):
    """Stops nothing: notes when each round of tokens was there."""

    def __init__(self):
        self.times = []

    def __call__(self, input_ids, scores, **kwargs):
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def make_model(args):
    dtype = torch.bfloat16 if args.mode == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
    # Random B. autocast_adapter_dtype would keep the adapters in f32 and convert at every call.
    config = LoraConfig(r=args.rank, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, config, "0", autocast_adapter_dtype=False)
    for number in range(1, args.adapters):
        model.add_adapter(str(number), config, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.005)
    model.set_adapter("0")
    # So that every stream has as many tokens.
    model.generation_config.eos_token_id = None
    return model.eval()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=["f32", "bf16"], required=True)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--adapters", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = make_model(args)
    ids = torch.randint(100, 40000, (args.streams, args.prompt))
    mixed = {}
    if args.streams > 1:
        mixed = {"adapter_names": [str(i % args.adapters) for i in range(args.streams)]}

    def decode():
        watch = Stopwatch()
        with torch.inference_mode():
            out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids),
                                 max_new_tokens=args.tokens, do_sample=False, pad_token_id=0,
                                 stopping_criteria=StoppingCriteriaList([watch]), **mixed)
        if out.shape[1] != args.prompt + args.tokens or len(watch.times) != args.tokens:
            raise RuntimeError(f"generate() gave {out.shape[1] - args.prompt} tokens in "
                               f"{len(watch.times)} rounds, want {args.tokens}")
        return watch.times[-1] - watch.times[0]

    decode()  # Not counted.
    seconds = decode()
    print(json.dumps({"tokens_per_second": args.streams * (args.tokens - 1) / seconds,
                      "seconds": seconds, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
