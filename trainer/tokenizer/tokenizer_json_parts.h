// The parts of a tokenizer.json, for tokenizer_json.cc only: each reader takes the JSON of its
// part and fills its fields of the spec, or refuses with what is supported instead. Includes the
// heavy JSON header, so no other file includes this one.

#ifndef DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_JSON_PARTS_H_
#define DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_JSON_PARTS_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "trainer/base/json.h"
#include "trainer/tokenizer/tokenizer_spec.h"

namespace deltaworks::trainer::tokenizer_json {

// All tokens read so far, by text.
using TokenIds = absl::flat_hash_map<std::string, int32_t>;

// InvalidArgument: "tokenizer.json: " and the message.
absl::Status Invalid(absl::string_view message);

// The subject of a message about `part`.
std::string Where(absl::string_view part);

// `value` in a message, shortened.
std::string Shown(const Json& value);

// The "type" of a component; InvalidArgument unless it is one of `supported`.
absl::StatusOr<std::string> Type(const Json& component, absl::string_view part,
                                 const std::vector<absl::string_view>& supported);

// The boolean `name`, or `absent` where there is none.
absl::StatusOr<bool> BoolOr(const Json& object, const std::string& name, absl::string_view subject,
                            bool absent);

// An integer in 0..kTokenIdMax; `token` is for the message.
absl::StatusOr<int32_t> CheckedId(const Json& value, absl::string_view token);

absl::Status ReadNormalizer(const Json& normalizer, TokenizerSpec* spec);
absl::Status ReadPreTokenizer(const Json& pre_tokenizer, TokenizerSpec* spec);
absl::Status ReadPostProcessor(const Json& post_processor, const TokenIds& ids,
                               TokenizerSpec* spec);
absl::Status ReadDecoder(const Json& decoder);

}  // namespace deltaworks::trainer::tokenizer_json

#endif  // DELTAWORKS_TRAINER_TOKENIZER_TOKENIZER_JSON_PARTS_H_
