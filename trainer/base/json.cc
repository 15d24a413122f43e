#include "trainer/base/json.h"

#include "absl/strings/str_cat.h"

namespace deltaworks {
namespace {

constexpr int kDepthMax = 100;

// Keeps the first error instead of throwing it, and bounds the depth.
class BoundedBuilder : public nlohmann::detail::json_sax_dom_parser<Json> {
 public:
  using Base = nlohmann::detail::json_sax_dom_parser<Json>;
  explicit BoundedBuilder(Json& root) : Base(root, /*allow_exceptions_=*/false) {}

  bool start_object(std::size_t size) { return Deeper() && Base::start_object(size); }
  bool end_object() {
    --depth_;
    return Base::end_object();
  }
  bool start_array(std::size_t size) { return Deeper() && Base::start_array(size); }
  bool end_array() {
    --depth_;
    return Base::end_array();
  }
  template <class Exception>
  bool parse_error(std::size_t position, const std::string& token, const Exception& exception) {
    error_ = absl::StrCat("not JSON at byte ", position);
    return Base::parse_error(position, token, exception);
  }
  const std::string& error() const { return error_; }

 private:
  bool Deeper() {
    if (++depth_ <= kDepthMax) return true;
    error_ = absl::StrCat("JSON nested deeper than ", kDepthMax, " levels");
    return false;
  }
  int depth_ = 0;
  std::string error_;
};

absl::Status WrongType(const Json& object, const std::string& name, absl::string_view subject,
                       absl::string_view want) {
  if (!object.is_object() || !object.contains(name)) {
    return absl::InvalidArgumentError(absl::StrCat(subject, ": ", name, " is absent, want ", want));
  }
  std::string got = JsonText(object[name]);
  if (got.size() > 60) got = absl::StrCat(got.substr(0, 60), "...");
  return absl::InvalidArgumentError(
      absl::StrCat(subject, ": ", name, " is ", got, ", want ", want));
}

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view subject) {
  Json value;
  BoundedBuilder builder(value);
  const bool ok = Json::sax_parse(text.begin(), text.end(), &builder);
  if (!ok || value.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(
        subject, ": ", builder.error().empty() ? std::string("not JSON") : builder.error()));
  }
  return value;
}

bool JsonHas(const Json& object, const std::string& name) {
  return object.is_object() && object.contains(name) && !object[name].is_null();
}

absl::StatusOr<int64_t> JsonInt(const Json& object, const std::string& name,
                                absl::string_view subject) {
  if (!JsonHas(object, name) || !object[name].is_number_integer() ||
      (object[name].is_number_unsigned() && object[name].get<uint64_t>() > INT64_MAX)) {
    return WrongType(object, name, subject, "an integer");
  }
  return object[name].get<int64_t>();
}

absl::StatusOr<double> JsonDouble(const Json& object, const std::string& name,
                                  absl::string_view subject) {
  if (!JsonHas(object, name) || !object[name].is_number()) {
    return WrongType(object, name, subject, "a number");
  }
  return object[name].get<double>();
}

absl::StatusOr<bool> JsonBool(const Json& object, const std::string& name,
                              absl::string_view subject) {
  if (!JsonHas(object, name) || !object[name].is_boolean()) {
    return WrongType(object, name, subject, "true or false");
  }
  return object[name].get<bool>();
}

absl::StatusOr<std::string> JsonString(const Json& object, const std::string& name,
                                       absl::string_view subject) {
  if (!JsonHas(object, name) || !object[name].is_string()) {
    return WrongType(object, name, subject, "a string");
  }
  return object[name].get<std::string>();
}

std::string JsonText(const Json& value, int indent) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace deltaworks
