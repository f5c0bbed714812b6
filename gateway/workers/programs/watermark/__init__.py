"""The worker program that draws a watermark: text layout, fonts, blending.

The watermark is defined in `gateway.workers.watermark_spec`.
"""
