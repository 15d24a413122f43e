// FakeBase: a base of two files in a FakeStoreClient, the larger of three chunks. For tests of who
// fetches bases.

#ifndef DELTAWORKS_SERVICES_CLIENTS_FAKE_BASE_H_
#define DELTAWORKS_SERVICES_CLIENTS_FAKE_BASE_H_

#include <cstdint>
#include <string>

#include "services/clients/fake_store_client.h"

namespace deltaworks::services {

struct FakeBase {
  static constexpr char kConfig[] = "{}";  // config.json
  std::string weights;                     // model.safetensors
  std::string weights_digest;
  std::string manifest_digest;
  int64_t manifest_bytes = 0;
  int64_t file_bytes = 0;  // Of both files.
};

// Uploaded by `tenant`.
FakeBase AddFakeBase(FakeStoreClient& store, const std::string& tenant);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_CLIENTS_FAKE_BASE_H_
