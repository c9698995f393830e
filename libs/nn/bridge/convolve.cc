// A plain convolution in inference by oneDNN, channels last, with weights packed beforehand, and with shift, shortcut and ReLU
// done on the way out. libtorch's compiler uses the same operators; they have no C++ header, so they are looked up by name.

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <string>

#include "call.h"

namespace vared {
namespace {

c10::OperatorHandle find(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload);
}

std::vector<int64_t> triple(const int64_t* values) { return {values, values + 3}; }

at::Tensor run(const c10::OperatorHandle& op, c10::Stack stack) {
  op.callBoxed(stack);
  return stack.at(0).toTensor();
}

at::Tensor pack(const at::Tensor& weight, const VaredConvolution& c, const at::Tensor& x) {
  static const c10::OperatorHandle op = find("mkldnn::_reorder_convolution_weight", "");
  return run(op, {weight, triple(c.padding), triple(c.stride), std::vector<int64_t>{1, 1, 1}, c.groups, x.sizes().vec()});
}

at::Tensor convolve(const at::Tensor& x, const at::Tensor& weight, const VaredConvolution& c, const VaredAfter& after) {
  const c10::IValue shift = after.shift == nullptr ? c10::IValue() : c10::IValue(*after.shift);
  const c10::List<std::optional<at::Scalar>> none;
  const std::vector<int64_t> dilation{1, 1, 1};
  const at::Tensor last = channels_last(x);
  // oneDNN takes no sizes of 1 in what it adds.
  const auto is_one = [](int64_t size) { return size == 1; };
  if (after.shortcut != nullptr && std::any_of(after.shortcut->sizes().begin() + 1, after.shortcut->sizes().end(), is_one)) {
    const at::Tensor sum = convolve(x, weight, c, {after.shift, nullptr, 0}).add_(*after.shortcut);
    return after.relu ? sum.relu() : sum;
  }
  if (after.shortcut == nullptr) {
    static const c10::OperatorHandle op = find("mkldnn::_convolution_pointwise", "");
    const std::string then = after.relu ? "relu" : "none";
    return run(op, {last, weight, shift, triple(c.padding), triple(c.stride), dilation, c.groups, then, none, c10::IValue("")});
  }
  static const c10::OperatorHandle op = find("mkldnn::_convolution_pointwise", "binary");
  const c10::IValue then = after.relu ? c10::IValue("relu") : c10::IValue();
  return run(op, {last, channels_last(*after.shortcut), weight, shift, triple(c.padding), triple(c.stride), dilation, c.groups,
                  "add", c10::IValue(), then, none, c10::IValue()});
}

}  // namespace
}  // namespace vared

at::Tensor* vared_pack(at::Tensor* weight, const VaredConvolution* convolution, at::Tensor* x) {
  return vared::caught([&] {
    const at::NoGradGuard guard;
    return vared::pack(*weight, *convolution, *x);
  });
}

at::Tensor* vared_convolve(at::Tensor* x, at::Tensor* packed, const VaredConvolution* convolution, const VaredAfter* after) {
  return vared::caught([&] {
    const at::NoGradGuard guard;
    return vared::convolve(*x, *packed, *convolution, *after);
  });
}
