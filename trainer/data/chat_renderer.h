// MakeChatRenderer: the renderer that TextEncoder takes, over a base's chat template. Store, worker
// and inference make theirs here, so that a chat becomes the same text in all of them.

#ifndef DELTAWORKS_TRAINER_DATA_CHAT_RENDERER_H_
#define DELTAWORKS_TRAINER_DATA_CHAT_RENDERER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "trainer/data/text_encoder.h"
#include "trainer/tokenizer/chat_template.h"

namespace deltaworks::trainer {

// A template that could not be had is no error until a chat is rendered: data without chats needs
// none. InvalidArgument then, with the reason. The renderer is thread-safe and owns the template.
ChatRenderer MakeChatRenderer(absl::StatusOr<std::unique_ptr<const ChatTemplate>> chat_template);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_DATA_CHAT_RENDERER_H_
