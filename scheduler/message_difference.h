// FirstDifference: where two messages of one type differ, for people.
//
// An absent field differs from one that is present with the default value. The order of map entries
// does not count. Pure.

#ifndef DELTAWORKS_SCHEDULER_MESSAGE_DIFFERENCE_H_
#define DELTAWORKS_SCHEDULER_MESSAGE_DIFFERENCE_H_

#include <string>

#include "google/protobuf/message.h"

namespace deltaworks::scheduler {

// The path of the first field, in order of field numbers, whose value differs:
// "job.train.lora.rank", "job.train.lora.target_modules[1]", "job.labels". Empty if none differs.
std::string FirstDifference(const google::protobuf::Message& a, const google::protobuf::Message& b);

}  // namespace deltaworks::scheduler

#endif  // DELTAWORKS_SCHEDULER_MESSAGE_DIFFERENCE_H_
