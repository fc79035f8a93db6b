"""The operators that models are made of: all that an archive of torch may call.

The list is what the nets of the tests and of `benchmarks/conformance` call when they are saved, what torch's
two ONNX exporters can translate, and what Python code writes as arithmetic, lists and strings. Left out is
whatever reaches for files, memory or other processes (`from_file`, `save`, `set_`, `resize_`, `as_strided`,
`empty_strided`, `rpc_*`, ...), and every namespace but those here.
"""

from __future__ import annotations

BUILT_IN = frozenset(
    (
        "annotate", "bool", "complex", "float", "getattr", "hasattr", "int", "isinstance", "len", "max",
        "min", "ord", "chr", "range", "round", "str", "uninitialized", "unchecked_cast", "abs", "list",
        "tuple", "dict",
    )
)  # fmt: skip
"""Functions without a namespace."""

_ATEN = """
    Bool Complex ComplexImplicit Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__
    __derive_index __getitem__ __iand__ __ilshift__ __interpolate __ior__ __irshift__ __is__ __isnot__
    __ixor__ __lshift__ __not__ __or__ __range_length __round_to_zero_floordiv __rshift__ __xor__
    _adaptive_avg_pool2d _adaptive_avg_pool3d _assert_async _assert_scalar _assert_tensor_metadata
    _cdist_forward _conj _convolution _convolution_mode _dim_arange _embedding_bag
    _embedding_bag_forward_only _fft_c2c _fft_c2r _fft_r2c _functional_assert_async
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size _fused_rms_norm
    _get_tracing_state _grouped_mm _infer_size _linalg_det _local_scalar_dense _log_softmax
    _make_dep_token _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training _native_multi_head_attention _nested_tensor_from_mask
    _nested_tensor_from_mask_left_aligned _pack_padded_sequence _pad_circular _pad_enum
    _pad_packed_sequence _pdist_forward _prelu_kernel _reshape_from_tensor _sample_dirichlet
    _scaled_dot_product_attention_math _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu _set_item
    _shape_as_tensor _softmax _standard_gamma _to_copy _transformer_encoder_layer_fwd _unique _unique2
    _unsafe_index _unsafe_index_put _unsafe_view _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    _weight_norm abs abs_ acos acos_ acosh acosh_ adaptive_avg_pool1d adaptive_avg_pool2d
    adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d add add_ addbmm
    addbmm_ addcdiv addcdiv_ addcmul addcmul_ addmm addmm_ addmv addmv_ addr addr_ affine_grid_generator
    alias all allclose alpha_dropout alpha_dropout_ amax amin aminmax angle any append arange argmax
    argmin argwhere as_tensor asin asin_ asinh asinh_ atan atan2 atan2_ atan_ atanh atanh_ atleast_1d
    atleast_2d atleast_3d avg_pool1d avg_pool2d avg_pool3d baddbmm baddbmm_ bartlett_window batch_norm
    bernoulli bernoulli_ bilinear bin binary_cross_entropy binary_cross_entropy_with_logits bincount
    bitwise_and bitwise_and_ bitwise_left_shift bitwise_left_shift_ bitwise_not bitwise_not_ bitwise_or
    bitwise_or_ bitwise_right_shift bitwise_right_shift_ bitwise_xor bitwise_xor_ blackman_window
    block_diag bmm broadcast_tensors broadcast_to bucketize can_cast capitalize cartesian_prod cat
    cauchy_ cdist ceil ceil_ celu celu_ center chain_matmul channel_shuffle cholesky chr chunk clamp
    clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clear clone col2im column_stack combinations
    complex concat concatenate conj conj_physical conj_physical_ constant_pad_nd contiguous conv1d
    conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution copy copy_
    copysign cos cos_ cosh cosh_ cosine_embedding_loss cosine_similarity count cpu cross
    cross_entropy_loss ctc_loss cuda cummax cummin cumsum cumsum_ deg2rad deg2rad_ degrees dequantize
    det detach detach_ detach_copy device diag_embed diagonal diagonal_copy diagonal_scatter dict diff
    digamma dim div div_ divide divide_ divmod dot dropout dropout_ dsplit dstack einsum element_size
    elu elu_ embedding embedding_bag embedding_renorm embedding_renorm_ empty empty_like endswith eq eq_
    equal erf erf_ erfc erfc_ erfinv exp exp2 exp2_ exp_ expand expand_as expandtabs expm1 expm1_
    exponential_ extend eye fabs factorial fake_quantize_per_channel_affine
    fake_quantize_per_tensor_affine feature_alpha_dropout feature_alpha_dropout_ feature_dropout
    feature_dropout_ fft_fft fft_fft2 fft_fftfreq fft_fftn fft_fftshift fft_ifft fft_ifft2 fft_ifftn
    fft_ifftshift fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftfreq fft_rfftn fill fill_
    find flatten flip fliplr flipud floor floor_ floor_divide floor_divide_ floordiv fmod fmod_ format
    frac frac_ fractional_max_pool2d frexp frobenius_norm full full_like gamma gather gcd ge ge_ gelu
    gelu_ geometric_ get get_autocast_dtype get_device glu greater greater_ greater_equal greater_equal_
    grid_sampler grid_sampler_2d group_norm gru gru_cell gt gt_ hamming_window hann_window hardshrink
    hardsigmoid hardsigmoid_ hardswish hardswish_ hardtanh hardtanh_ hash heaviside heaviside_ hex
    hinge_embedding_loss histc hsplit hstack huber_loss hypot i0 im2col imag index index_add index_add_
    index_copy index_copy_ index_fill index_fill_ index_put index_put_ index_reduce index_select insert
    instance_norm inverse is_autocast_cpu_enabled is_autocast_enabled is_complex is_contiguous
    is_floating_point is_grad_enabled is_inference is_nonzero is_pinned is_same_size is_scripting
    is_signed isalnum isalpha isclose isdigit isfinite isinf islower isnan isneginf isposinf isspace
    istft isupper item items join kaiser_window keys kl_div kron kthvalue l1_loss layer_norm ldexp le
    le_ leaky_relu leaky_relu_ len lerp lerp_ less less_ less_equal less_equal_ lgamma lift lift_fresh
    lift_fresh_copy linalg_cholesky linalg_cross linalg_det linalg_eigh linalg_inv linalg_matmul
    linalg_matrix_norm linalg_multi_dot linalg_norm linalg_qr linalg_slogdet linalg_solve linalg_svd
    linalg_vector_norm linear linspace list ljust log log10 log10_ log1p log1p_ log2 log2_ log_
    log_normal_ log_sigmoid log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and
    logical_and_ logical_not logical_not_ logical_or logical_or_ logical_xor logical_xor_ logit logit_
    logspace logsumexp lower lstm lstm_cell lstrip lt lt_ mH mT manual_seed margin_ranking_loss
    masked_fill masked_fill_ masked_scatter masked_scatter_ masked_select mathremainder matmul
    matrix_exp matrix_power max max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices
    max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d maximum mean median meshgrid min
    minimum mish mish_ mm mode modf moveaxis movedim mse_loss mul mul_ multi_margin_loss
    multilabel_margin_loss multinomial multiply multiply_ mv nan_to_num nan_to_num_ nanmedian
    nanquantile narrow native_batch_norm native_channel_shuffle native_dropout native_group_norm
    native_layer_norm ne ne_ neg neg_ new_empty new_full new_ones new_zeros nextafter nll_loss
    nll_loss2d nll_loss_forward nll_loss_nd nonzero nonzero_numpy norm normal normal_ normal_functional
    numel numpy_T oct one_hot ones ones_like ord pad pairwise_distance partition pdist percentFormat
    permute pinverse pixel_shuffle pixel_unshuffle poisson poisson_nll_loss polar polygamma pop popitem
    pow pow_ prelu prod promote_types put quantile quantize_per_tensor quantized_lstm rad2deg rad2deg_
    radians rand rand_like randint randint_like randn randn_like random_ randperm range ravel real
    reciprocal reciprocal_ reflection_pad1d reflection_pad2d reflection_pad3d relu relu6 relu6_ relu_
    remainder remainder_ remove renorm repeat repeat_interleave replace replication_pad1d
    replication_pad2d replication_pad3d requires_grad_ reshape reshape_as resolve_conj resolve_neg
    result_type reverse rfind rjust rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell roll rot90
    round round_ row_stack rpartition rrelu rrelu_ rsqrt rsqrt_ rstrip rsub scalar_tensor
    scaled_dot_product_attention scatter scatter_ scatter_add scatter_add_ scatter_reduce
    scatter_reduce_ searchsorted seed segment_reduce select select_scatter selu selu_ set_grad_enabled
    setdefault sigmoid sigmoid_ sign sign_ signbit silu silu_ sin sin_ sinc sinc_ sinh sinh_ size slice
    slice_scatter smooth_l1_loss soft_margin_loss softmax softplus softshrink sort sorted special_erf
    special_erfc special_erfcx special_expit special_expm1 special_log_softmax special_logit
    special_sinc special_softmax special_xlogy split split_with_sizes splitlines sqrt sqrt_ square
    square_ squeeze squeeze_ stack startswith std std_mean stft str stride strip sub sub_ subtract
    subtract_ sum swapaxes swapcase swapdims sym_constrain_range sym_constrain_range_for_size sym_numel
    sym_size sym_stride t t_ take take_along_dim tan tan_ tanh tanh_ tensor tensor_split tensordot
    threshold threshold_ tile title to to_dense to_padded_tensor tolist topk transpose transpose_
    trapezoid tril tril_ tril_indices triplet_margin_loss triu triu_ triu_indices true_divide
    true_divide_ trunc trunc_ type_as unbind unflatten unflatten_dense_tensors unfold uniform uniform_
    unique_consecutive unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_
    update upper upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_trilinear3d values vander var var_mean view view_as
    view_as_complex view_as_complex_copy view_as_real view_as_real_copy view_copy vsplit vstack warn
    where xlogy xlogy_ zero zero_ zeros zeros_like zfill
"""
TORCH = frozenset(_ATEN.split())
"""Operators of `aten`, as `torch.<name>` or as methods of tensors, lists, dicts and strings."""

_PRIM = """
    ConstantChunk EnumName EnumValue IfThenElse NumToTensor RaiseException StringIndex TupleIndex
    TupleUnpack Uninitialized VarConcat VarStack abs data device dtype id index is_cpu is_cuda is_meta
    is_mkldnn is_mps is_nested is_quantized is_sparse is_xla isinstance itemsize layout max min nbytes
    rangelist requires_grad tolist type unchecked_cast unchecked_unwrap_optional
"""
_TORCHVISION = "nms roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d"
OTHERS = frozenset(
    [
        *(f"prim::{name}" for name in _PRIM.split()),
        *(f"torchvision::{name}" for name in _TORCHVISION.split()),
    ]
)
"""Operators of other namespaces."""

_IN_GRAPHS = """
    BroadcastSizes CallFunction CallMethod Closure Constant CreateObject DictConstruct Enter Exit
    GetAttr If ListConstruct ListUnpack Loop Param Return SetAttr TupleConstruct TupleSlice
"""
IN_GRAPHS = frozenset(f"prim::{name}" for name in _IN_GRAPHS.split())
"""What a graph has besides for values, branches and loops."""

_PRIMS = """
    abs acos acosh add amax amin asin asinh atan atan2 atanh bessel_i0 bessel_i0e bessel_i1 bessel_i1e
    bessel_j0 bessel_j1 bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_in_dim cat cbrt ceil
    clone collapse collapse_view conj conj_physical convert_element_type cos cosh device_put digamma div
    empty empty_permuted eq erf erf_inv erfc erfcx exp exp2 expm1 fft_c2c fft_c2r fft_r2c fill floor
    fmax fmin fmod frexp full full_like gcd ge gt hypot igamma igammac imag iota isfinite item le lgamma
    log log10 log1p log2 lt maximum maximum_value minimum minimum_value mul ndtri ne neg nextafter
    normal pow prod real reciprocal remainder reshape rev round rsqrt scalar_tensor shift_left
    shift_right_arithmetic sign signbit sin sinh spherical_bessel_j0 split_dim sqrt squeeze sub sum tan
    tanh transpose trunc uniform var view_of_dtype where xor_sum zeta
"""
PRIMS = frozenset(_PRIMS.split())
"""Operators of `prims`, which decomposed programs have."""
