#include "services/clients/fake_base.h"

#include "glog/logging.h"
#include "services/base/manifest.h"

namespace deltaworks::services {

FakeBase AddFakeBase(FakeStoreClient& store, const std::string& tenant) {
  FakeBase base;
  base.weights.resize(static_cast<size_t>(2 * kChunkBytes + 1000));
  for (size_t i = 0; i < base.weights.size(); ++i) {
    base.weights[i] = static_cast<char>(i * 2654435761U >> 13);
  }
  v1::Manifest manifest;
  manifest.set_format_version(1);
  manifest.set_kind(v1::Manifest::BASE_MODEL);
  *manifest.add_files() = DescribeBytes("config.json", FakeBase::kConfig);
  *manifest.add_files() = DescribeBytes("model.safetensors", base.weights);
  for (const v1::ManifestFile& file : manifest.files()) base.file_bytes += file.size_bytes();
  store.AddBlob(tenant, FakeBase::kConfig);
  base.weights_digest = store.AddBlob(tenant, base.weights);
  const auto bytes = SerializeManifest(manifest);
  CHECK(bytes.ok()) << bytes.status();
  base.manifest_digest = store.AddBlob(tenant, *bytes);
  base.manifest_bytes = static_cast<int64_t>(bytes->size());
  return base;
}

}  // namespace deltaworks::services
