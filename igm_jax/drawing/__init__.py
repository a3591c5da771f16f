"""Pictures of skeleton clips; needs the extra `viz` (Matplotlib and Pillow).

Each picture has one pair of axes in inches and an orthographic camera. Metres (or
pixels) are as long across as upwards.
"""

from igm_jax.drawing.contact_sheet import contact_sheet
from igm_jax.drawing.moving_picture import save_moving_picture
from igm_jax.drawing.timeline import timeline_picture

__all__ = ["contact_sheet", "save_moving_picture", "timeline_picture"]
