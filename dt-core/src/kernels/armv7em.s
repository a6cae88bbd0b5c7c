@ The inner loops of `armv7em.rs`, which has the register and memory diagrams.

    .syntax unified
    .thumb
    .fpu    fpv4-sp-d16

@ ---- columns ---------------------------------------------------------------------------------

@ Two columns of rows a and b, one token: \both = 256·a + \u, \u = b + 128. \sum is 64 bits long, \low is not.
.macro dt_both sum_lo, sum_hi, low, both, u, x
    smlald  \sum_lo, \sum_hi, \both, \x
    smlad   \low, \u, \x, \low
.endm

@ Three tokens, two columns of both rows.
.macro dt_columns_3 both
    uxtb16  r10, \both
    sxtb16  \both, \both, ror #8
    ldm.w   r1!, {r11, r12, lr}
    smlad   r2, \both, r11, r2
    smlad   r3, r10, r11, r3
    smlad   r4, \both, r12, r4
    smlad   r5, r10, r12, r5
    smlad   r6, \both, lr, r6
    smlad   r7, r10, lr, r7
.endm

@ Three tokens, four columns: 19 instructions of 4 bytes.
.macro dt_group_3
    ldrd    r8, r9, [r0], #8
    dt_columns_3 r8
    dt_columns_3 r9
.endm

@ Two tokens, two columns.
.macro dt_columns_2 x_first, x_second
    ldr     r8, [r0], #4
    uxtb16  lr, r8
    dt_both r2, r3, r4, r8, lr, \x_first
    dt_both r5, r6, r7, r8, lr, \x_second
.endm

@ Two tokens, four columns: 13 instructions of 4 bytes; all activations of the group come with one LDM.
.macro dt_group_2
    ldm.w   r1!, {r9-r12}
    dt_columns_2 r9, r10
    dt_columns_2 r11, r12
.endm

@ One token, two columns.
.macro dt_columns_1 both, x
    uxtb16  lr, \both
    dt_both r2, r3, r4, \both, lr, \x
.endm

@ One token, four columns: 8 instructions.
.macro dt_group_1
    ldrd    r5, r6, [r0], #8
    ldrd    r9, r10, [r1], #8
    dt_columns_1 r5, r9
    dt_columns_1 r6, r10
.endm

@ One token, eight columns: 14 instructions of 4 bytes.
.macro dt_two_groups_1
    ldm.w   r0!, {r5-r8}
    ldm.w   r1!, {r9-r12}
    dt_columns_1 r5, r9
    dt_columns_1 r6, r10
    dt_columns_1 r7, r11
    dt_columns_1 r8, r12
.endm

@ What is 256·Σa·x + Σb·x and Σb·x becomes Σa·x in \sum_lo; Σb·x is in \low.
.macro dt_part sum_lo, sum_hi, low
    lsr     \sum_lo, \sum_lo, #8
    orr     \sum_lo, \sum_lo, \sum_hi, lsl #24
    sub     \sum_lo, \sum_lo, \low, asr #8
.endm

@ ---- a whole matrix --------------------------------------------------------------------------

@ The fields of `Job`, which becomes the stack frame. A row pair begins by loading the first eight words into r1-r7 and pc.
    .equ    DT_BEGIN, 0                 @ x, six sums, entry
    .equ    DT_NEXT, 32
    .equ    DT_X_END, 36
    .equ    DT_FINISH, 40
    .equ    DT_ENTRY_TWOS, 44
    .equ    DT_SCALE, 48
    .equ    DT_BIAS, 52
    .equ    DT_Y, 56
    .equ    DT_STRIDE, 60
    .equ    DT_END, 64
    .equ    DT_X_SCALE, 68
    .equ    DT_FRAME, 84                @ 20 words and one to keep the stack aligned

@ y of one token = bias + sums · (scale · x_scale). VMLA rounds the product, then the sum: it is no fused operation.
.macro dt_scale sum_a, sum_b, x_scale
    vcvt.f32.s32 \sum_a, \sum_a
    vcvt.f32.s32 \sum_b, \sum_b
    vmul.f32    s10, s6, \x_scale
    vmul.f32    s11, s7, \x_scale
    vmul.f32    \sum_a, \sum_a, s10
    vmul.f32    \sum_b, \sum_b, s11
    vadd.f32    \sum_a, \sum_a, s8
    vadd.f32    \sum_b, \sum_b, s9
    vstmia      r10, {\sum_a, \sum_b}
    add         r10, r10, r11
.endm

@ The same for the last token, after which the biases are not needed any more.
.macro dt_scale_last sum_a, sum_b, x_scale
    vcvt.f32.s32 \sum_a, \sum_a
    vcvt.f32.s32 \sum_b, \sum_b
    vmul.f32    s10, s6, \x_scale
    vmul.f32    s11, s7, \x_scale
    vmla.f32    s8, \sum_a, s10
    vmla.f32    s9, \sum_b, s11
    vstmia      r10!, {s8-s9}
.endm

@ r0: packed weights, r1: the job.
.macro dt_matrix tokens
    .section .text.dt_core_matrix_\tokens, "ax", %progbits
    .global dt_core_matrix_\tokens
    .type   dt_core_matrix_\tokens, %function
    .thumb_func
    .balign 4
dt_core_matrix_\tokens:
    push    {r4-r11, lr}
    sub     sp, sp, #DT_FRAME
    mov     r12, sp
    .rept 2
    ldm     r1!, {r2-r9}
    stm     r12!, {r2-r9}
    .endr
    ldm     r1, {r2-r5}
    stm     r12, {r2-r5}
    vldr    s13, [sp, #DT_X_SCALE]
    vldr    s14, [sp, #DT_X_SCALE + 4]
    vldr    s15, [sp, #DT_X_SCALE + 8]

    @ A row pair: activations and sums begin again, and on to the entry.
1:  ldm     sp, {r1-r7, pc}

    .balign 4
    .if \tokens == 1
    .global dt_core_odd_group
dt_core_odd_group:
    dt_group_1
    ldr     pc, [sp, #DT_ENTRY_TWOS]
    .endif

    @ The unrolled groups, and what comes after them: the finish, or a look at whether there are more.
    .balign 4
    .global dt_core_groups_\tokens
dt_core_groups_\tokens:
    .if \tokens == 1
    .rept 16
    dt_two_groups_1
    .endr
    .else
    .rept 32
    dt_group_\tokens
    .endr
    .endif
    ldr     pc, [sp, #DT_NEXT]

    .balign 4
    .global dt_core_more_\tokens
dt_core_more_\tokens:
    ldr     r12, [sp, #DT_X_END]
    cmp     r1, r12
    bne     dt_core_groups_\tokens
    ldr     pc, [sp, #DT_FINISH]

    @ The finish in integers.
    .balign 4
    .global dt_core_integers_\tokens
dt_core_integers_\tokens:
    ldrd    r10, r11, [sp, #DT_Y]       @ and stride
    add     r12, r10, #8
    str     r12, [sp, #DT_Y]
    .if \tokens == 3
    strd    r2, r3, [r10]
    add     r10, r10, r11
    strd    r4, r5, [r10]
    add     r10, r10, r11
    strd    r6, r7, [r10]
    .else
    dt_part r2, r3, r4
    strd    r2, r4, [r10]
    .endif
    .if \tokens == 2
    dt_part r5, r6, r7
    add     r10, r10, r11
    strd    r5, r7, [r10]
    .endif
    ldr     lr, [sp, #DT_END]
    cmp     r12, lr
    bne     1b
    b       3f

    @ The finish in floats.
    .balign 4
    .global dt_core_floats_\tokens
dt_core_floats_\tokens:
    ldrd    r8, r9, [sp, #DT_SCALE]     @ and bias
    ldrd    r10, r11, [sp, #DT_Y]       @ and stride
    .if \tokens == 3
    vmov    s0, s1, r2, r3
    .else
    dt_part r2, r3, r4
    vmov    s0, s1, r2, r4
    .endif
    vldmia  r8!, {s6-s7}
    vldmia  r9!, {s8-s9}
    strd    r8, r9, [sp, #DT_SCALE]
    .if \tokens == 1
    dt_scale_last s0, s1, s13
    str     r10, [sp, #DT_Y]
    .else
    add     r12, r10, #8
    str     r12, [sp, #DT_Y]
    dt_scale s0, s1, s13
    .if \tokens == 2
    dt_part r5, r6, r7
    vmov    s2, s3, r5, r7
    dt_scale_last s2, s3, s14
    .else
    vmov    s2, s3, r4, r5
    dt_scale s2, s3, s14
    vmov    s4, s5, r6, r7
    dt_scale_last s4, s5, s15
    .endif
    .endif
    ldr     lr, [sp, #DT_END]
    cmp     r8, lr
    bne     1b

3:  add     sp, sp, #DT_FRAME
    pop     {r4-r11, pc}
    .size   dt_core_matrix_\tokens, . - dt_core_matrix_\tokens
.endm

    dt_matrix 1
    dt_matrix 2
    dt_matrix 3

@ ---- the sums of activations -----------------------------------------------------------------

@ r0: activations, r1: their end, r2: where Σx of each token goes.
.macro dt_sums tokens
    .section .text.dt_core_sums_\tokens, "ax", %progbits
    .global dt_core_sums_\tokens
    .type   dt_core_sums_\tokens, %function
    .thumb_func
dt_core_sums_\tokens:
    push    {r4-r10, lr}
    mov     r3, #0x00010001
    movs    r10, #0
    mov     r12, r10
    mov     lr, r10
1:  
    .if \tokens == 1
    ldm     r0!, {r4-r5}
    .elseif \tokens == 2
    ldm     r0!, {r4-r7}
    .else
    ldm     r0!, {r4-r9}
    .endif
    smlad   r10, r4, r3, r10
    .if \tokens == 1
    smlad   r10, r5, r3, r10
    .elseif \tokens == 2
    smlad   r12, r5, r3, r12
    smlad   r10, r6, r3, r10
    smlad   r12, r7, r3, r12
    .else
    smlad   r12, r5, r3, r12
    smlad   lr, r6, r3, lr
    smlad   r10, r7, r3, r10
    smlad   r12, r8, r3, r12
    smlad   lr, r9, r3, lr
    .endif
    cmp     r0, r1
    bne     1b
    stm     r2, {r10, r12, lr}
    pop     {r4-r10, pc}
    .size   dt_core_sums_\tokens, . - dt_core_sums_\tokens
.endm

    dt_sums 1
    dt_sums 2
    dt_sums 3

@ ---- floats ----------------------------------------------------------------------------------

@ r0: x, r1: its end, a multiple of eight floats further on; returns the largest magnitude's bits.
    .section .text.dt_core_magnitude, "ax", %progbits
    .global dt_core_magnitude
    .type   dt_core_magnitude, %function
    .thumb_func
dt_core_magnitude:
    push    {r4-r9, lr}
    movs    r2, #0                      @ Magnitudes are kept doubled: the sign is shifted out.
1:  ldm     r0!, {r3-r9, r12}
    .irp    value, r3, r4, r5, r6, r7, r8, r9, r12
    cmp     r2, \value, lsl #1
    it      lo
    lsllo   r2, \value, #1
    .endr
    cmp     r0, r1
    bne     1b
    lsrs    r0, r2, #1
    pop     {r4-r9, pc}
    .size   dt_core_magnitude, . - dt_core_magnitude

@ r0: x, r1: its end, a multiple of eight floats further on, r2: where runs of two i16 go, r3: bytes from one run
@ to the next, s0: what x is multiplied with. Adding 1.5·2²³ leaves the nearest integer in the low half of the float.
    .section .text.dt_core_quantize, "ax", %progbits
    .global dt_core_quantize
    .type   dt_core_quantize, %function
    .thumb_func
dt_core_quantize:
    push    {r4-r7, lr}
    add     lr, r3, r3, lsl #1
    movw    r12, #0
    movt    r12, #0x4b40
    vmov    s1, r12
1:  vldmia  r0!, {s2-s9}
    .irp    value, s2, s3, s4, s5, s6, s7, s8, s9
    vmul.f32 \value, \value, s0
    vadd.f32 \value, \value, s1
    .endr
    vmov    r4, r5, s2, s3
    vmov    r6, r7, s4, s5
    pkhbt   r4, r4, r5, lsl #16
    pkhbt   r6, r6, r7, lsl #16
    str     r4, [r2]
    str     r6, [r2, r3]
    vmov    r4, r5, s6, s7
    vmov    r6, r7, s8, s9
    pkhbt   r4, r4, r5, lsl #16
    pkhbt   r6, r6, r7, lsl #16
    str     r4, [r2, r3, lsl #1]
    str     r6, [r2, lr]
    add     r2, r2, r3, lsl #2
    cmp     r0, r1
    bne     1b
    pop     {r4-r7, pc}
    .size   dt_core_quantize, . - dt_core_quantize

@ r0: x, r1: its end, a multiple of eight floats further on. As signed integers, what is negative reaches from −0 up to
@ −∞ (0xff800000), which stays, and above that lies NaN.
    .section .text.dt_core_relu, "ax", %progbits
    .global dt_core_relu
    .type   dt_core_relu, %function
    .thumb_func
dt_core_relu:
    push    {r4-r9, lr}
1:  ldm     r0, {r2-r9}
    .irp    value, r2, r3, r4, r5, r6, r7, r8, r9
    cmn     \value, #0x00800000
    it      lt
    movlt   \value, #0
    .endr
    stm     r0!, {r2-r9}
    cmp     r0, r1
    bne     1b
    pop     {r4-r9, pc}
    .size   dt_core_relu, . - dt_core_relu

@ r0: x, r1: its end, a multiple of eight floats further on, r2: y; x += y.
    .section .text.dt_core_add, "ax", %progbits
    .global dt_core_add
    .type   dt_core_add, %function
    .thumb_func
dt_core_add:
    vpush   {d8-d11}
1:  vldmia  r0, {s8-s15}
    vldmia  r2!, {s16-s23}
    vadd.f32 s8, s8, s16
    vadd.f32 s9, s9, s17
    vadd.f32 s10, s10, s18
    vadd.f32 s11, s11, s19
    vadd.f32 s12, s12, s20
    vadd.f32 s13, s13, s21
    vadd.f32 s14, s14, s22
    vadd.f32 s15, s15, s23
    vstmia  r0!, {s8-s15}
    cmp     r0, r1
    bne     1b
    vpop    {d8-d11}
    bx      lr
    .size   dt_core_add, . - dt_core_add

@ Eight partial sums in s8-s15 → their sum in s8, in the order of the numerics contract.
.macro dt_fold
    vadd.f32 s8, s8, s12
    vadd.f32 s10, s10, s14
    vadd.f32 s9, s9, s13
    vadd.f32 s11, s11, s15
    vadd.f32 s8, s8, s10
    vadd.f32 s9, s9, s11
    vadd.f32 s8, s8, s9
.endm

@ s8-s15 = 0.
.macro dt_zero_lanes
    vmov    s8, r12
    .irp    lane, s9, s10, s11, s12, s13, s14, s15
    vmov.f32 \lane, s8
    .endr
.endm

@ r0: x, r1: the end of its blocks of eight floats, at least one, r2: weight, r3: bias, on the stack: out and whether four
@ more floats follow the blocks; s0: the number of floats, s1: ε.
@ Returns 1 / √(variance + ε) in s0.
@ VMLA rounds the product, then the sum: it is no fused operation.
    .section .text.dt_core_layer_norm, "ax", %progbits
    .global dt_core_layer_norm
    .type   dt_core_layer_norm, %function
    .thumb_func
dt_core_layer_norm:
    push    {r4-r6, lr}
    vpush   {d8-d15}
    mov     lr, r0
    movs    r4, #0
    mov     r12, r4
    ldrd    r5, r6, [sp, #16 + 64]

    @ s2: mean.
    dt_zero_lanes
1:  vldmia  r0!, {s16-s23}
    vadd.f32 s8, s8, s16
    vadd.f32 s9, s9, s17
    vadd.f32 s10, s10, s18
    vadd.f32 s11, s11, s19
    vadd.f32 s12, s12, s20
    vadd.f32 s13, s13, s21
    vadd.f32 s14, s14, s22
    vadd.f32 s15, s15, s23
    cmp     r0, r1
    bne     1b
    cbz     r6, 1f
    vldmia  r0, {s16-s19}
    vadd.f32 s8, s8, s16
    vadd.f32 s9, s9, s17
    vadd.f32 s10, s10, s18
    vadd.f32 s11, s11, s19
1:  dt_fold
    vdiv.f32 s2, s8, s0

    @ s3: 1 / √(variance + ε).
    mov     r0, lr
    dt_zero_lanes
2:  vldmia  r0!, {s16-s23}
    .irp    value, s16, s17, s18, s19, s20, s21, s22, s23
    vsub.f32 \value, \value, s2
    .endr
    vmla.f32 s8, s16, s16
    vmla.f32 s9, s17, s17
    vmla.f32 s10, s18, s18
    vmla.f32 s11, s19, s19
    vmla.f32 s12, s20, s20
    vmla.f32 s13, s21, s21
    vmla.f32 s14, s22, s22
    vmla.f32 s15, s23, s23
    cmp     r0, r1
    bne     2b
    cbz     r6, 2f
    vldmia  r0, {s16-s19}
    .irp    value, s16, s17, s18, s19
    vsub.f32 \value, \value, s2
    .endr
    vmla.f32 s8, s16, s16
    vmla.f32 s9, s17, s17
    vmla.f32 s10, s18, s18
    vmla.f32 s11, s19, s19
2:  dt_fold
    vdiv.f32 s8, s8, s0
    vadd.f32 s8, s8, s1
    vsqrt.f32 s8, s8
    vmov.f32 s3, #1.0
    vdiv.f32 s3, s3, s8

    mov     r0, lr
3:  vldmia  r0!, {s16-s23}
    vldmia  r2!, {s24-s31}
    vldmia  r3!, {s8-s15}
    .irp    value, s16, s17, s18, s19, s20, s21, s22, s23
    vsub.f32 \value, \value, s2
    vmul.f32 \value, \value, s3
    .endr
    vmla.f32 s8, s16, s24
    vmla.f32 s9, s17, s25
    vmla.f32 s10, s18, s26
    vmla.f32 s11, s19, s27
    vmla.f32 s12, s20, s28
    vmla.f32 s13, s21, s29
    vmla.f32 s14, s22, s30
    vmla.f32 s15, s23, s31
    vstmia  r5!, {s8-s15}
    cmp     r0, r1
    bne     3b
    cbz     r6, 4f
    vldmia  r0, {s16-s19}
    vldmia  r2, {s24-s27}
    vldmia  r3, {s8-s11}
    .irp    value, s16, s17, s18, s19
    vsub.f32 \value, \value, s2
    vmul.f32 \value, \value, s3
    .endr
    vmla.f32 s8, s16, s24
    vmla.f32 s9, s17, s25
    vmla.f32 s10, s18, s26
    vmla.f32 s11, s19, s27
    vstmia  r5, {s8-s11}
4:  vmov.f32 s0, s3
    vpop    {d8-d15}
    pop     {r4-r6, pc}
    .size   dt_core_layer_norm, . - dt_core_layer_norm
