#include "trainer/import/pre_tokenizers.h"

namespace deltaworks::trainer {
namespace {

// The published patterns of the models, as their tokenizer.json files have them. They differ in how
// many digits stay together.
constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                 R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// `use_regex`: split by GPT-2's pattern first.
Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json Sequence(Json first, Json second) {
  return {{"type", "Sequence"},
          {"pretokenizers", Json::array({std::move(first), std::move(second)})}};
}

Json Split(const char* pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

}  // namespace

std::optional<PreTokenizer> FindPreTokenizer(absl::string_view gguf_name) {
  if (gguf_name == "smollm") {
    const Json digits = {{"type", "Digits"}, {"individual_digits", true}};
    return PreTokenizer{.pre_tokenizer = Sequence(digits, ByteLevel(/*use_regex=*/true))};
  }
  if (gguf_name == "gpt-2" || gguf_name == "default") {
    return PreTokenizer{.pre_tokenizer = ByteLevel(/*use_regex=*/true)};
  }
  if (gguf_name == "llama-bpe" || gguf_name == "llama3" || gguf_name == "llama-v3") {
    return PreTokenizer{
        .pre_tokenizer = Sequence(Split(kLlama3Pattern), ByteLevel(/*use_regex=*/false)),
        .ignore_merges = true,
        .bos_by_default = true};
  }
  if (gguf_name == "qwen2") {
    return PreTokenizer{
        .normalizer = {{"type", "NFC"}},
        .pre_tokenizer = Sequence(Split(kQwen2Pattern), ByteLevel(/*use_regex=*/false))};
  }
  return std::nullopt;
}

std::string PreTokenizerNames() {
  return "smollm, gpt-2, default, llama-bpe, llama3, llama-v3, qwen2";
}

}  // namespace deltaworks::trainer
