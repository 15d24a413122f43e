#include "trainer/tokenizer/nfc.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uniset.h>

#include "glog/logging.h"

namespace deltaworks::trainer {
namespace {

// Made once and never destroyed, so that it may be used at any time.
const icu::Normalizer2& Unicode9Nfc() {
  static const icu::Normalizer2* const normalizer = [] {
    UErrorCode error = U_ZERO_ERROR;
    const icu::Normalizer2* const nfc = icu::Normalizer2::getNFCInstance(error);
    auto* const old = new icu::UnicodeSet(u"[:age=9.0:]", error);  // Of that age or older.
    CHECK(U_SUCCESS(error)) << "ICU has no NFC data: " << u_errorName(error);
    old->freeze();
    return new icu::FilteredNormalizer2(*nfc, *old);
  }();
  return *normalizer;
}

}  // namespace

absl::string_view Nfc(absl::string_view text, std::string* storage) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2& nfc = Unicode9Nfc();
  const icu::StringPiece source(text.data(), static_cast<int32_t>(text.size()));
  if (nfc.isNormalizedUTF8(source, error)) return text;
  storage->clear();
  icu::StringByteSink<std::string> sink(storage);
  nfc.normalizeUTF8(0, source, sink, nullptr, error);
  CHECK(U_SUCCESS(error)) << "ICU cannot normalise: " << u_errorName(error);
  return *storage;
}

}  // namespace deltaworks::trainer
